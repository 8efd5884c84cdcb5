#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "inputs.h"
#include "ops/bind.h"
#include "ops/conv.h"

namespace dwf {
namespace {

using namespace nb::literals;

// Rows and columns of the window, of the stride, of the padding, of the dilation.
using Sizes = std::array<std::size_t, 8>;

std::string text(std::size_t number) { return std::to_string(number); }

// Outputs along one dimension, as torch counts them. Throws std::invalid_argument if the window does not fit.
std::size_t outputs(std::size_t size, std::size_t window, std::size_t stride, std::size_t padding, std::size_t dilation) {
  constexpr std::size_t kMost = std::size_t{1} << 20;  // no product overflows
  require(window >= 1 && window < kMost && stride >= 1 && stride < kMost && padding < kMost && dilation >= 1 &&
              dilation < kMost,
          "window, stride and dilation must be at least 1");
  const std::size_t reach = dilation * (window - 1) + 1;
  require(size + 2 * padding >= reach,
          "a window that reaches " + text(reach) + " does not fit into " + text(size + 2 * padding));
  return (size + 2 * padding - reach) / stride + 1;
}

Window read_window(const Sizes& sizes, const Layout& from, const Layout& to) {
  const Window window{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7]};
  require(from.border_rows >= window.padding_rows && from.border_columns >= window.padding_columns,
          "the input's border is narrower than the padding");
  const std::size_t rows =
      outputs(from.height, window.rows, window.stride_rows, window.padding_rows, window.dilation_rows);
  const std::size_t columns =
      outputs(from.width, window.columns, window.stride_columns, window.padding_columns, window.dilation_columns);
  require(rows == to.height && columns == to.width, "the output is " + text(to.height) + " by " + text(to.width) +
                                                        ", but these windows make " + text(rows) + " by " +
                                                        text(columns));
  return window;
}

// The number of weights of an output channel.
std::size_t weights_each(const Window& window, const Layout& from, const Layout& to, std::size_t groups) {
  require(groups > 0 && from.channels % groups == 0 && to.channels % groups == 0,
          text(from.channels) + " and " + text(to.channels) + " channels do not make " + text(groups) + " groups");
  return from.channels / groups * window.rows * window.columns;
}

void add_conv(Builder& self, int input, int added, int output, const Window& window, std::size_t groups,
              const Weights& weights, const nb::object& bias, const std::string& activation, double slope,
              std::optional<std::size_t> panel) {
  const Layout& to = self.layout(output);
  if (added >= 0) {
    const Layout& more = self.layout(added);
    require(more.channels == to.channels && more.height == to.height && more.width == to.width,
            "what is added has another shape than the output");
  }
  std::vector<float> biases(to.channels);
  if (!bias.is_none()) {
    const Floats given = nb::cast<Floats>(bias, false);
    require(given.size() == to.channels || given.size() == to.features(),
            "bias has " + text(given.size()) + " elements, expected " + text(to.channels) + ", or " +
                text(to.features()) + " for a map");
    biases.assign(given.data(), given.data() + given.size());
  }
  self.add(std::make_unique<Conv>(self, input, added, output, window, groups, weights, std::move(biases),
                                  find_activation(activation, slope), panel.value_or(Conv::kChoose)));
}

void add_sparse_conv(Builder& self, int input, int output, const Indices& begins, const Indices& indices,
                     const Floats& weights, const Sizes& sizes, std::size_t groups, const nb::object& bias, int added,
                     const std::string& activation, double slope, std::optional<std::size_t> panel) {
  const Layout &from = self.layout(input), &to = self.layout(output);
  const Window window = read_window(sizes, from, to);
  const SparseWeights read(
      read_csr(to.channels, weights_each(window, from, to, groups), begins, indices, weights));
  add_conv(self, input, added, output, window, groups, read, bias, activation, slope, panel);
}

void add_dense_conv(Builder& self, int input, int output, const Floats& weights, const Sizes& sizes, std::size_t groups,
                    const nb::object& bias, int added, const std::string& activation, double slope, std::optional<std::size_t> panel) {
  const Layout &from = self.layout(input), &to = self.layout(output);
  const Window window = read_window(sizes, from, to);
  const std::size_t expected = to.channels * weights_each(window, from, to, groups);
  require(weights.size() == expected, "there are " + text(weights.size()) + " weights, expected " + text(expected));
  add_conv(self, input, added, output, window, groups, DenseWeights(weights.data(), weights.size()), bias, activation, slope, panel);
}

}  // namespace

void bind_conv(BuilderClass& builder) {
  builder.def("sparse_conv", add_sparse_conv, "input"_a, "output"_a, "begins"_a.noconvert(), "indices"_a.noconvert(),
              "weights"_a.noconvert(), "window"_a, "groups"_a = 1, "bias"_a = nb::none(), "added"_a = -1,
              "activation"_a = "", "slope"_a = 0.0, "panel"_a = nb::none());
  builder.def("dense_conv", add_dense_conv, "input"_a, "output"_a, "weights"_a.noconvert(), "window"_a, "groups"_a = 1,
              "bias"_a = nb::none(), "added"_a = -1, "activation"_a = "", "slope"_a = 0.0, "panel"_a = nb::none());
}

}  // namespace dwf
