#include "table.h"

#include <algorithm>
#include <array>

#include "nearby.h"
#include "walk.h"

namespace dwf {
namespace {

// Weights whose tensors are asked for together. They fit into the first cache, and suffice for it to be waited for once.
constexpr std::size_t kTogether = 8;

// A parameter with a gradient, and what its state holds.
struct Candidate {
  std::size_t place;  // among the parameters
  nb::object grad, state;
  bool complete = false;
  // The tensors to be read: the parameter, its gradient, and its state's values in the order of `all_keys`.
  std::array<PyObject*, 2 + kMostValues> tensors;
};

std::vector<nb::object> all_keys(const Keys& keys) {
  std::vector<nb::object> all = keys.kept;
  for (const auto& row : keys.moments) all.insert(all.end(), row.begin(), row.end());
  all.insert(all.end(), keys.counts.begin(), keys.counts.end());
  return all;
}

// A tensor in a state, if it is float32 and laid out as `like`; null otherwise.
float* find(const Reader& reader, PyObject* tensor, const View& like) {
  View view;
  if (!reader.read(tensor, view) || view.type != Type::f32 || !same_layout(view, like)) return nullptr;
  // An empty tensor has no address, but this is not null for want of a tensor.
  static float nothing;
  return view.size == 0 ? &nothing : static_cast<float*>(view.data);
}

// A number that the base keeps once per tensor.
float* find_count(const Reader& reader, PyObject* tensor) {
  View view;
  if (!reader.read(tensor, view)) return nullptr;
  return view.type == Type::f32 && view.ndim == 0 ? static_cast<float*>(view.data) : nullptr;
}

bool fill(Slot& slot, const Reader& reader, const Candidate& candidate, const Keys& keys, int min_ndim) {
  PyObject* const* tensors = candidate.tensors.data();
  View weight, gradient;
  if (!reader.read(*tensors++, weight) || weight.ndim < min_ndim || !is_dense(weight)) return false;
  if (!reader.read(*tensors++, gradient) || !same_layout(gradient, weight)) return false;
  // The weight is the only thing to take its root from.
  if (keys.kept.empty() && weight.type != Type::f32) return false;
  View gate;
  if (keys.split.has_value()) {
    if (!reader.read(tensors[1], gate) || !find_groups(weight, gate, *keys.split, slot.groups)) return false;
  }
  const auto like = [&](std::size_t part) -> const View& { return keys.split.has_value() && part > 0 ? gate : weight; };
  slot.size = keys.split.has_value() ? slot.groups.count : weight.size;
  slot.weight = weight.data;
  slot.weight_type = weight.type;
  slot.grad = gradient.data;
  slot.grad_type = gradient.type;
  for (std::size_t d = 0; d < keys.kept.size(); ++d)
    if ((slot.factors[d] = find(reader, *tensors++, like(d))) == nullptr) return false;
  for (std::size_t k = 0; k < keys.moments.size(); ++k)
    for (std::size_t d = 0; d < keys.moments[k].size(); ++d)
      if ((slot.moments[k][d] = find(reader, *tensors++, like(d))) == nullptr) return false;
  for (std::size_t d = 0; d < keys.counts.size(); ++d)
    if ((slot.counts[d] = find_count(reader, *tensors++)) == nullptr) return false;
  return true;
}

bool fill_plain(Plain& plain, const Reader& reader, const Candidate& candidate, KeyReader& keys, std::size_t count,
                int min_ndim) {
  View weight, gradient;
  PyObject* const state = candidate.state.ptr();
  PyObject* buffer = nullptr;
  if (!reader.read(candidate.tensors[0], weight) || weight.ndim >= min_ndim || !is_dense(weight)) return false;
  if (weight.type != Type::f32 || weight.size > kMostPlain) return false;
  if (!reader.read(candidate.tensors[1], gradient) || gradient.type != Type::f32 || !same_layout(gradient, weight)) return false;
  // A base without state may have left an empty one, or none.
  if (state == nullptr ? count > 0 : !(PyDict_Check(state) && keys.read(state, &buffer))) return false;
  plain.size = weight.size;
  plain.weight = static_cast<float*>(weight.data);
  plain.grad = static_cast<const float*>(gradient.data);
  plain.buffer = count == 0 ? nullptr : find(reader, buffer, weight);
  return count == 0 || plain.buffer != nullptr;
}

nb::object look_up(nb::dict states, PyObject* parameter) {
  PyObject* const state = PyDict_GetItemWithError(states.ptr(), parameter);
  if (state == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return nb::borrow(state);
}

}  // namespace

Table collect(const Reader& reader, nb::list parameters, nb::dict states, const Keys& keys, int min_ndim,
              const std::vector<nb::object>* plain) {
  static PyObject* const grad_name = PyUnicode_InternFromString("grad");
  Table table;
  const std::size_t count = nb::len(parameters);
  if (count == 0) return table;
  table.slots.reserve(count);
  table.members.reserve(count);
  table.held.reserve(count);
  const std::vector<nb::object> wanted = all_keys(keys);
  KeyReader key_reader(wanted);
  const std::vector<nb::object> none;
  KeyReader plain_reader(plain == nullptr ? none : *plain);
  Cursor cursor(states, PyList_GET_ITEM(parameters.ptr(), 0));
  for (std::size_t begin = 0; begin < count; begin += kTogether) {
    const std::size_t end = std::min(begin + kTogether, count);
    std::array<Candidate, kTogether> candidates;
    std::size_t found = 0;
    for (std::size_t i = begin; i < end; ++i) {
      PyObject* const parameter = PyList_GET_ITEM(parameters.ptr(), i);
      Candidate& candidate = candidates[found];
      candidate.state = nb::borrow(cursor.take(parameter));
      candidate.grad = nb::steal(PyObject_GetAttr(parameter, grad_name));
      if (!candidate.grad.is_valid()) throw nb::python_error();
      if (candidate.grad.is_none()) continue;
      if (!candidate.state.is_valid()) candidate.state = look_up(states, parameter);
      candidate.place = i;
      ++found;
    }
    // From here on no Python code runs that could free what is borrowed.
    for (std::size_t i = 0; i < found; ++i) {
      Candidate& candidate = candidates[i];
      PyObject* const state = candidate.state.ptr();
      PyObject** const tensors = candidate.tensors.data();
      tensors[0] = PyList_GET_ITEM(parameters.ptr(), candidate.place);
      tensors[1] = candidate.grad.ptr();
      candidate.complete = state != nullptr && PyDict_Check(state) && key_reader.read(state, tensors + 2);
      if (PyErr_Occurred() != nullptr) throw nb::python_error();
      if (candidate.complete)
        for (std::size_t k = 0; k < wanted.size(); ++k) fetch(tensors[2 + k]);
    }
    cursor.fetch_next(kTogether);
    for (std::size_t i = 0; i < found; ++i)
      if (candidates[i].complete) reader.fetch(candidates[i].tensors.data(), 2 + wanted.size());
    for (std::size_t i = 0; i < found; ++i) {
      Candidate& candidate = candidates[i];
      table.slots.emplace_back();
      if (candidate.complete && fill(table.slots.back(), reader, candidate, keys, min_ndim)) {
        table.members.push_back(candidate.place);
        table.weights.append(nb::handle(candidate.tensors[0]));
        table.held.push_back(std::move(candidate.grad));
        continue;
      }
      table.slots.pop_back();
      Plain found_plain;
      if (plain != nullptr && fill_plain(found_plain, reader, candidate, plain_reader, plain->size(), min_ndim)) {
        table.plain.push_back(found_plain);
        table.plain_weights.append(nb::handle(candidate.tensors[0]));
        table.held.push_back(std::move(candidate.grad));
      } else {
        table.rest.push_back(candidate.place);
      }
      if (PyErr_Occurred() != nullptr) throw nb::python_error();
    }
  }
  return table;
}

}  // namespace dwf
