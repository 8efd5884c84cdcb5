// The Python module. It is imported in dwf_optim/step/ only, and _native.pyi describes it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <string>
#include <tuple>
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

Options make_options(Rule rule, Storage storage, int depth, double lr, double penalty, double dead, bool flush, bool maximize,
                     double momentum, double dampening, bool nesterov, double beta1, double beta2, double eps) {
  Options o{};
  o.rule = rule;
  o.storage = storage;
  o.depth = depth;
  o.parts = storage == Storage::full ? depth : 1;
  o.nesterov = nesterov;
  o.flush = flush;
  o.sign = maximize ? -1 : 1;
  o.decay = static_cast<float>(o.sign * 2 * penalty / depth);
  o.dead = static_cast<float>(dead);
  o.lr = static_cast<float>(lr);
  o.momentum = static_cast<float>(momentum);
  o.undamped = static_cast<float>(1 - dampening);
  o.beta2 = static_cast<float>(beta2);
  o.fresh1 = static_cast<float>(1 - beta1);
  o.fresh2 = static_cast<float>(1 - beta2);
  o.eps = static_cast<float>(eps);
  o.exact_lr = lr;
  o.exact_beta1 = beta1;
  o.exact_beta2 = beta2;
  return o;
}

Table collect_by_keys(const Reader& reader, nb::list parameters, nb::dict states, nb::list kept, nb::list moments,
                      nb::list counts, int min_ndim) {
  Keys keys;
  for (nb::handle key : kept) keys.kept.push_back(nb::borrow(key));
  for (nb::handle row : moments) {
    keys.moments.emplace_back();
    for (nb::handle key : nb::borrow<nb::list>(row)) keys.moments.back().push_back(nb::borrow(key));
  }
  for (nb::handle key : counts) keys.counts.push_back(nb::borrow(key));
  return collect(reader, parameters, states, keys, min_ndim);
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
      .value("EPHEMERAL", Storage::ephemeral);
  nb::class_<Options>(m, "Options").def_static("make", make_options, nb::kw_only(), "rule"_a, "storage"_a, "depth"_a, "lr"_a,
      "penalty"_a, "dead"_a, "flush"_a, "maximize"_a, "momentum"_a = 0.0, "dampening"_a = 0.0, "nesterov"_a = false,
      "beta1"_a = 0.0, "beta2"_a = 0.0, "eps"_a = 0.0);
  nb::class_<Table>(m, "Table")
      .def_ro("rest", &Table::rest)
      .def_ro("members", &Table::members)
      .def_ro("weights", &Table::weights)
      .def("step", step_table, "options"_a, "threads"_a, "instruction_set"_a, "compare"_a, "ranges"_a = nb::none(),
           nb::call_guard<nb::gil_scoped_release>());
  nb::class_<TorchC>(m, "TorchC")
      .def(nb::init<const std::vector<std::uintptr_t>&, const std::vector<std::int32_t>&, nb::handle, std::uintptr_t,
                    std::uintptr_t>(),
           "functions"_a, "constants"_a, "example"_a, "implementation"_a, "storage"_a);
  nb::class_<Reader>(m, "Reader")
      .def(nb::init<nb::tuple, nb::tuple, nb::object, const TorchC&, nb::list>(), "types"_a, "dtypes"_a, "strided"_a,
           "torch"_a, "examples"_a)
      .def_prop_ro("by_functions", &Reader::by_functions)
      .def("collect", collect_by_keys, "parameters"_a, "states"_a, "kept"_a, "moments"_a, "counts"_a, "min_ndim"_a)
      .def("factor_gradients", factor_gradients, "factors"_a, "grad"_a, "decay"_a, "out"_a, "threads"_a,
           "instruction_set"_a)
      .def("finish", finish, "factors"_a, "state"_a, "weight"_a, "dead"_a, "threads"_a, "instruction_set"_a);
  m.def("instruction_sets", instruction_sets);
}
