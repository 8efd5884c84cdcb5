// The Python module. It is imported in dwf_optim/step/ only, and _native.pyi describes it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "around.h"
#include "dispatch.h"
#include "step.h"
#include "table.h"
#include "tensors.h"

namespace dwf {
namespace {

using namespace nb::literals;

using Ranges = std::vector<std::tuple<std::size_t, std::size_t, std::size_t>>;

// Options may be tensors.
double number(PyObject* option) {
  const double value = PyFloat_AsDouble(option);
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  return value;
}

double number(nb::dict options, const char* name, double otherwise) {
  PyObject* const found = PyDict_GetItemString(options.ptr(), name);
  return found == nullptr ? otherwise : number(found);
}

std::pair<double, double> betas(nb::dict options) {
  PyObject* const found = PyDict_GetItemString(options.ptr(), "betas");
  if (found == nullptr) return {0, 0};
  const auto [beta1, beta2] = nb::cast<std::pair<nb::object, nb::object>>(nb::handle(found));
  return {number(beta1.ptr()), number(beta2.ptr())};
}

// base: the base's options by name; those that it does not have count as 0. lr: in factor space.
Options make_options(Rule rule, Storage storage, int depth, double lr, double penalty, bool weigh_by_size, double dead,
                     bool flush, nb::dict base) {
  const bool maximize = number(base, "maximize", 0) != 0;
  const auto [beta1, beta2] = betas(base);
  Options o{};
  o.rule = rule;
  o.storage = storage;
  o.depth = depth;
  o.parts = storage == Storage::full || storage == Storage::gated ? depth : 1;
  o.nesterov = number(base, "nesterov", 0) != 0;
  o.flush = flush;
  o.weigh_by_size = weigh_by_size;
  o.sign = maximize ? -1 : 1;
  o.decay = static_cast<float>(o.sign * 2 * penalty / depth);
  o.dead = static_cast<float>(dead);
  o.lr = static_cast<float>(lr);
  o.momentum = static_cast<float>(number(base, "momentum", 0));
  o.undamped = static_cast<float>(1 - number(base, "dampening", 0));
  o.beta2 = static_cast<float>(beta2);
  o.fresh1 = static_cast<float>(1 - beta1);
  o.fresh2 = static_cast<float>(1 - beta2);
  o.eps = static_cast<float>(number(base, "eps", 1));
  o.exact_lr = lr;
  o.exact_beta1 = beta1;
  o.exact_beta2 = beta2;
  return o;
}

Table collect_by_keys(const Reader& reader, nb::list parameters, nb::dict states, nb::list kept, nb::list moments,
                      nb::list counts, int min_ndim, const std::optional<std::vector<nb::object>>& plain,
                      const std::optional<std::pair<int, std::vector<std::int64_t>>>& split) {
  Keys keys;
  if (split.has_value()) keys.split = Split{split->first, split->second};
  for (nb::handle key : kept) keys.kept.push_back(nb::borrow(key));
  for (nb::handle row : moments) {
    keys.moments.emplace_back();
    for (nb::handle key : nb::borrow<nb::list>(row)) keys.moments.back().push_back(nb::borrow(key));
  }
  for (nb::handle key : counts) keys.counts.push_back(nb::borrow(key));
  return collect(reader, parameters, states, keys, min_ndim, plain.has_value() ? &*plain : nullptr);
}

void step_plain_table(const Table& table, nb::dict base) {
  PlainOptions o{};
  o.lr = static_cast<float>(number(base, "lr", 0));
  o.momentum = static_cast<float>(number(base, "momentum", 0));
  o.undamped = static_cast<float>(1 - number(base, "dampening", 0));
  o.decay = static_cast<float>(number(base, "weight_decay", 0));
  o.nesterov = number(base, "nesterov", 0) != 0;
  o.maximize = number(base, "maximize", 0) != 0;
  for (const Plain& plain : table.plain) step_plain(plain, o);
}

// Without ranges: the whole table, and that counts as a step.
Ranges step_table(Table& table, Options options, int threads, const std::string& instruction_set, bool compare,
                  const std::optional<Ranges>& some) {
  const Kernel kernel = find_kernel(options.rule, options.depth, options.storage, instruction_set);
  std::vector<Range> ranges;
  if (some.has_value()) {
    for (const auto& [slot, begin, end] : *some) ranges.push_back({slot, begin, end});
  } else {
    ranges = whole(table.slots);
    count_step(table.slots, options);
  }
  options.compare = compare;
  Ranges left;
  for (const Range& range : step_ranges(table.slots, options, kernel, ranges, threads))
    left.emplace_back(range.slot, range.begin, range.end);
  return left;
}

}  // namespace
}  // namespace dwf

NB_MODULE(_native, m) {
  using namespace dwf;
  nb::enum_<Rule>(m, "Rule")
      .value("SGD", Rule::sgd)
      .value("MOMENTUM", Rule::momentum)
      .value("ADAM", Rule::adam)
      .value("AMSGRAD", Rule::amsgrad);
  nb::enum_<Storage>(m, "Storage")
      .value("FULL", Storage::full)
      .value("TIED", Storage::tied)
      .value("EPHEMERAL", Storage::ephemeral)
      .value("GATED", Storage::gated);
  nb::class_<Options>(m, "Options").def_static("make", make_options, nb::kw_only(), "rule"_a, "storage"_a, "depth"_a, "lr"_a,
      "penalty"_a, "weigh_by_size"_a, "dead"_a, "flush"_a, "base"_a);
  nb::class_<Table>(m, "Table")
      .def_ro("rest", &Table::rest)
      .def_ro("members", &Table::members)
      .def_ro("weights", &Table::weights)
      .def("step", step_table, "options"_a, "threads"_a, "instruction_set"_a, "compare"_a, "ranges"_a = nb::none(),
           nb::call_guard<nb::gil_scoped_release>())
      .def_ro("plain_weights", &Table::plain_weights)
      .def("step_plain", step_plain_table, "base"_a);
  nb::class_<TorchC>(m, "TorchC")
      .def(nb::init<const std::vector<std::uintptr_t>&, const std::vector<std::int32_t>&, nb::handle, std::uintptr_t,
                    std::uintptr_t>(),
           "functions"_a, "constants"_a, "example"_a, "implementation"_a, "storage"_a);
  nb::class_<Reader>(m, "Reader")
      .def(nb::init<nb::tuple, nb::tuple, nb::object, const TorchC&, nb::list>(), "types"_a, "dtypes"_a, "strided"_a,
           "torch"_a, "examples"_a)
      .def_prop_ro("by_functions", &Reader::by_functions)
      .def("collect", collect_by_keys, "parameters"_a, "states"_a, "kept"_a, "moments"_a, "counts"_a, "min_ndim"_a,
           "plain"_a = nb::none(), "split"_a = nb::none())
      .def("factor_gradients", factor_gradients, "factors"_a, "grad"_a, "decay"_a, "out"_a, "threads"_a,
           "instruction_set"_a)
      .def("finish", finish, "factors"_a, "state"_a, "weight"_a, "dead"_a, "threads"_a, "instruction_set"_a);
  m.def("instruction_sets", instruction_sets);
  m.def("plain_is_supported", plain_is_supported);
}
