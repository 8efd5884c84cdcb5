// The Python module. inference/native.py is the only place that imports it, and _native.pyi describes it.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "builder.h"
#include "inputs.h"
#include "ops/bind.h"
#include "program.h"

namespace dwf {
namespace {

using namespace nb::literals;

using Given = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Made = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
// Channels, height, width; border of rows, of columns.
using Sizes = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t>;

// The size of the first dimension, if the array has `features` elements for each index of it.
template <class Array>
std::size_t read_batch(const Array& array, const char* what, std::size_t number, std::size_t features) {
  std::size_t each = 1;
  for (std::size_t d = 1; d < array.ndim(); ++d) each *= array.shape(d);
  require(array.ndim() > 0 && each == features,
          std::string(what) + " " + std::to_string(number) + " has shape " + shape_of(array.ndim(), array.shape_ptr()) +
              "; expected the batch and " + std::to_string(features) + " elements a sample");
  return array.shape(0);
}

void run(const Program& program, const std::vector<Given>& inputs, const std::vector<Made>& outputs, int threads) {
  require(inputs.size() == program.inputs().size() && outputs.size() == program.outputs().size(),
          "the program has " + std::to_string(program.inputs().size()) + " inputs and " +
              std::to_string(program.outputs().size()) + " outputs, not " + std::to_string(inputs.size()) + " and " +
              std::to_string(outputs.size()));
  std::vector<const float*> from;
  std::vector<float*> to;
  std::size_t batch = 0;
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const std::size_t size =
        read_batch(inputs[k], "input", k, program.layouts()[program.inputs()[k]].features());
    if (k == 0) batch = size;
    require(size == batch, "inputs have batches of " + std::to_string(batch) + " and " + std::to_string(size));
    from.push_back(inputs[k].data());
  }
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const std::size_t size =
        read_batch(outputs[k], "output", k, program.layouts()[program.outputs()[k]].features());
    require(size == batch, "output " + std::to_string(k) + " has a batch of " + std::to_string(size) +
                               ", the inputs of " + std::to_string(batch));
    to.push_back(outputs[k].data());
  }
  const nb::gil_scoped_release release;
  program.run(from.data(), to.data(), batch, threads);
}

// The kernels' own layout: arrays [tiles, features, lanes].
void run_tiles(const Program& program, const Given& input, const Made& output, int threads) {
  require(program.inputs().size() == 1 && program.outputs().size() == 1, "the program has several inputs or outputs");
  require(input.ndim() == 3 && output.ndim() == 3 && input.shape(0) == output.shape(0) &&
              input.shape(2) == output.shape(2) &&
              input.shape(1) == program.layouts()[program.inputs()[0]].features() &&
              output.shape(1) == program.layouts()[program.outputs()[0]].features(),
          "arrays have shapes " + shape_of(input.ndim(), input.shape_ptr()) + " and " +
              shape_of(output.ndim(), output.shape_ptr()) + "; expected [tiles, features, lanes]");
  const std::size_t lanes = input.shape(2);
  require(std::find(std::begin(kTileLanes), std::end(kTileLanes), lanes) != std::end(kTileLanes),
          "no tile has " + std::to_string(lanes) + " lanes");
  const float* const from = input.data();
  float* const to = output.data();
  require(lanes == 1 || (reinterpret_cast<std::uintptr_t>(from) % kAlignment == 0 &&
                         reinterpret_cast<std::uintptr_t>(to) % kAlignment == 0),
          "arrays must be aligned to " + std::to_string(kAlignment) + " bytes");
  const nb::gil_scoped_release release;
  program.run_tiles(&from, &to, input.shape(0), lanes, threads);
}

}  // namespace
}  // namespace dwf

NB_MODULE(_native, m) {
  using namespace dwf;
  nb::class_<Program>(m, "Program")
      .def("run", run, "inputs"_a.noconvert(), "outputs"_a.noconvert(), "threads"_a = 1)
      .def("run_tiles", run_tiles, "input"_a.noconvert(), "output"_a.noconvert(), "threads"_a = 1)
      .def_prop_ro("kernels", [](const Program& program) {
        std::vector<std::string> names;
        for (const auto& op : program.ops()) names.emplace_back(op->kernel());
        return names;
      });
  BuilderClass builder(m, "Builder");
  builder.def(nb::init<const std::string&, std::size_t>(), "instruction_set"_a = "", "widest"_a = kMostLanes)
      .def("value", [](Builder& self, const Sizes& sizes) {
        const auto [channels, height, width, border_rows, border_columns] = sizes;
        return self.add_value({channels, height, width, border_rows, border_columns});
      }, "sizes"_a)
      .def("input", &Builder::add_input, "value"_a)
      .def("build", &Builder::build, "outputs"_a);
  bind_ops(builder);
  m.def("instruction_sets", instruction_sets);
}
