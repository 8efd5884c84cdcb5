// The Python module. inference/native.py is the only place that imports it, and _native.pyi describes it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "arrays.h"
#include "builder.h"
#include "layout.h"
#include "memory.h"
#include "ops/bind.h"
#include "program.h"

namespace dwf {
namespace {

using namespace nb::literals;

// Channels, height, width; border of rows, of columns.
using Sizes = std::tuple<std::size_t, std::size_t, std::size_t, std::size_t, std::size_t>;

// Mostly one, for which a call of microseconds should not ask for memory.
template <typename T>
class Few {
 public:
  explicit Few(std::size_t size) : many_(size == 1 ? 0 : size), data_(size == 1 ? &one_ : many_.data()), size_(size) {}
  Few(const Few&) = delete;
  Few& operator=(const Few&) = delete;

  std::size_t size() const { return size_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t k) { return data_[k]; }
  const T& operator[](std::size_t k) const { return data_[k]; }

 private:
  T one_{};
  std::vector<T> many_;
  T* const data_;
  const std::size_t size_;
};

// Arrays of one call: one, or a list or tuple of them.
class Arrays {
 public:
  Arrays(nb::handle given, bool writable, const char* what)
      : list_(PyList_Check(given.ptr()) || PyTuple_Check(given.ptr())),
        arrays_(list_ ? static_cast<std::size_t>(PySequence_Fast_GET_SIZE(given.ptr())) : 1) {
    for (std::size_t k = 0; k < arrays_.size(); ++k) {
      PyObject* const array = list_ ? PySequence_Fast_GET_ITEM(given.ptr(), static_cast<Py_ssize_t>(k)) : given.ptr();
      arrays_[k].read(array, writable, what);
    }
  }

  std::size_t size() const { return arrays_.size(); }
  const Array& operator[](std::size_t k) const { return arrays_[k]; }

 private:
  const bool list_;
  Few<Array> arrays_;
};

// The size of the first dimension, if the array has `features` elements for each index of it.
std::size_t read_batch(const Array& array, const char* what, std::size_t features) {
  std::size_t each = 1;
  for (std::size_t d = 1; d < array.ndim(); ++d) each *= array.shape(d);
  if (array.ndim() == 0 || each != features)
    throw std::invalid_argument(std::string(what) + " has shape " + array.shape() + "; expected the batch and " +
                                std::to_string(features) + " elements a sample");
  return array.shape(0);
}

void check_call(const Program& program, const Arrays& inputs, const Arrays& outputs, int threads) {
  if (threads < 1) throw std::invalid_argument("threads is " + std::to_string(threads) + "; give at least 1");
  const std::size_t in = program.inputs().size(), out = program.outputs().size();
  if (inputs.size() != in || outputs.size() != out)
    throw std::invalid_argument("the program has " + std::to_string(in) + " inputs and " + std::to_string(out) +
                                " outputs, not " + std::to_string(inputs.size()) + " and " +
                                std::to_string(outputs.size()));
}

// Inputs are read while outputs are written, tile by tile.
void check_apart(const Arrays& inputs, const Arrays& outputs) {
  const auto begin = [](const Array& array) { return reinterpret_cast<std::uintptr_t>(array.data()); };
  const auto end = [&](const Array& array) {
    std::size_t elements = 1;
    for (std::size_t d = 0; d < array.ndim(); ++d) elements *= array.shape(d);
    return begin(array) + elements * sizeof(float);
  };
  const auto overlap = [&](const Array& a, const Array& b) { return begin(a) < end(b) && begin(b) < end(a); };
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (overlap(inputs[i], outputs[k])) throw std::invalid_argument("an output overlaps an input; give it memory of its own");
    for (std::size_t i = 0; i < k; ++i)
      if (overlap(outputs[i], outputs[k])) throw std::invalid_argument("outputs overlap; give each memory of its own");
  }
}

void run(const Program& program, nb::handle given, nb::handle made, int threads) {
  const Arrays inputs(given, false, "input"), outputs(made, true, "output");
  check_call(program, inputs, outputs, threads);
  Few<const float*> from(inputs.size());
  Few<float*> to(outputs.size());
  const std::size_t batch = read_batch(inputs[0], "input", program.layouts()[program.inputs()[0]].features());
  for (std::size_t k = 0; k < inputs.size(); ++k) {
    const std::size_t size = read_batch(inputs[k], "input", program.layouts()[program.inputs()[k]].features());
    if (size != batch)
      throw std::invalid_argument("inputs have batches of " + std::to_string(batch) + " and " + std::to_string(size));
    from[k] = inputs[k].data();
  }
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    const std::size_t size = read_batch(outputs[k], "output", program.layouts()[program.outputs()[k]].features());
    if (size != batch)
      throw std::invalid_argument("the output has a batch of " + std::to_string(size) + ", the input of " +
                                  std::to_string(batch));
    to[k] = outputs[k].data();
  }
  check_apart(inputs, outputs);
  const nb::gil_scoped_release release;
  program.run(from.data(), to.data(), batch, threads);
}

// The kernels' own layout: arrays [tiles, features, lanes].
void run_tiles(const Program& program, nb::handle given, nb::handle made, int threads) {
  const Arrays inputs(given, false, "input"), outputs(made, true, "output");
  check_call(program, inputs, outputs, threads);
  Few<const float*> from(inputs.size());
  Few<float*> to(outputs.size());
  std::size_t tiles = 0, lanes = 0;
  const auto check = [&](const Array& array, int value) {
    const std::size_t features = program.layouts()[value].features();
    if (array.ndim() != 3 || array.shape(1) != features)
      throw std::invalid_argument("an array has shape " + array.shape() + "; expected [tiles, " +
                                  std::to_string(features) + ", lanes]");
    if (lanes == 0) tiles = array.shape(0), lanes = array.shape(2);
    if (array.shape(0) != tiles || array.shape(2) != lanes)
      throw std::invalid_argument("arrays have different numbers of tiles or lanes");
    if (std::find(std::begin(kTileLanes), std::end(kTileLanes), lanes) == std::end(kTileLanes))
      throw std::invalid_argument("no tile has " + std::to_string(lanes) + " lanes");
    if (lanes > 1 && reinterpret_cast<std::uintptr_t>(array.data()) % kAlignment != 0)
      throw std::invalid_argument("arrays must be aligned to " + std::to_string(kAlignment) + " bytes");
    return array.data();
  };
  for (std::size_t k = 0; k < inputs.size(); ++k) from[k] = check(inputs[k], program.inputs()[k]);
  for (std::size_t k = 0; k < outputs.size(); ++k) to[k] = check(outputs[k], program.outputs()[k]);
  check_apart(inputs, outputs);
  const nb::gil_scoped_release release;
  program.run_tiles(from.data(), to.data(), tiles, lanes, threads);
}

}  // namespace
}  // namespace dwf

NB_MODULE(_native, m) {
  using namespace dwf;
  nb::class_<Program>(m, "Program")
      .def("run", run, "inputs"_a, "outputs"_a, "threads"_a = 1)
      .def("run_tiles", run_tiles, "inputs"_a, "outputs"_a, "threads"_a = 1)
      .def_prop_ro("kernels", [](const Program& program) {
        std::vector<std::string> names;
        for (const auto& op : program.ops()) names.emplace_back(op->kernel());
        return names;
      })
      .def_prop_ro("bytes", [](const Program& program) {
        std::vector<std::size_t> sizes;
        for (const auto& op : program.ops()) sizes.push_back(op->bytes());
        return sizes;
      });
  BuilderClass builder(m, "Builder");
  builder.def(nb::init<const std::string&, std::size_t>(), "instruction_set"_a = "", "widest"_a = kMostLanes)
      .def("value", [](Builder& self, const Sizes& sizes) {
        const auto [channels, height, width, border_rows, border_columns] = sizes;
        return self.add_value({channels, height, width, border_rows, border_columns});
      }, "sizes"_a)
      .def("input", &Builder::add_input, "value"_a)
      .def_prop_ro("size", &Builder::size)
      .def("build", &Builder::build, "outputs"_a);
  bind_ops(builder);
  m.def("instruction_sets", instruction_sets);
  m.def("register_tensors", register_tensors, "types"_a, "exchange"_a.none());
}
