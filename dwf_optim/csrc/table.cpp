#include "table.h"

namespace dwf {
namespace {

// A tensor in a state, if it is float32 and laid out as `like`; null otherwise.
float* find(const Reader& reader, PyObject* state, const nb::object& key, const View& like) {
  PyObject* const tensor = PyDict_GetItemWithError(state, key.ptr());
  View view;
  if (tensor == nullptr || !reader.read(tensor, view)) return nullptr;
  if (view.type != Type::f32 || !same_layout(view, like)) return nullptr;
  // An empty tensor has no address, but this is not null for want of a tensor.
  static float nothing;
  return view.size == 0 ? &nothing : static_cast<float*>(view.data);
}

// A number that the base keeps once per tensor.
float* find_count(const Reader& reader, PyObject* state, const nb::object& key) {
  PyObject* const tensor = PyDict_GetItemWithError(state, key.ptr());
  View view;
  if (tensor == nullptr || !reader.read(tensor, view)) return nullptr;
  return view.type == Type::f32 && view.ndim == 0 ? static_cast<float*>(view.data) : nullptr;
}

bool fill(Slot& slot, const Reader& reader, PyObject* parameter, PyObject* grad, PyObject* state, const Keys& keys,
          int min_ndim) {
  View weight, gradient;
  if (!reader.read(parameter, weight) || weight.ndim < min_ndim || !is_dense(weight)) return false;
  if (!reader.read(grad, gradient) || !same_layout(gradient, weight)) return false;
  // The weight is the only thing to take its root from.
  if (keys.kept.empty() && weight.type != Type::f32) return false;
  const std::size_t parts = keys.kept.empty() ? 1 : keys.kept.size();
  // A key more than ours is something that this base or another has left, and that a step might have to heed.
  const std::size_t expected = keys.kept.size() + parts * keys.moments.size() + keys.counts.size();
  if (static_cast<std::size_t>(PyDict_GET_SIZE(state)) != expected) return false;
  slot.size = weight.size;
  slot.weight = weight.data;
  slot.weight_type = weight.type;
  slot.grad = gradient.data;
  slot.grad_type = gradient.type;
  for (std::size_t d = 0; d < keys.kept.size(); ++d)
    if ((slot.factors[d] = find(reader, state, keys.kept[d], weight)) == nullptr) return false;
  for (std::size_t d = 0; d < parts; ++d) {
    for (std::size_t k = 0; k < keys.moments.size(); ++k)
      if ((slot.moments[k][d] = find(reader, state, keys.moments[k][d], weight)) == nullptr) return false;
    if (!keys.counts.empty() && (slot.counts[d] = find_count(reader, state, keys.counts[d])) == nullptr) return false;
  }
  return true;
}

}  // namespace

Table collect(const Reader& reader, nb::list parameters, nb::dict states, const Keys& keys, int min_ndim) {
  static PyObject* const grad_name = PyUnicode_InternFromString("grad");
  Table table;
  const std::size_t count = nb::len(parameters);
  table.slots.reserve(count);
  table.members.reserve(count);
  table.held.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* const parameter = PyList_GET_ITEM(parameters.ptr(), i);
    nb::object grad = nb::steal(PyObject_GetAttr(parameter, grad_name));
    if (!grad.is_valid()) throw nb::python_error();
    if (grad.is_none()) continue;
    PyObject* const state = PyDict_GetItemWithError(states.ptr(), parameter);
    if (state == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
    table.slots.emplace_back();
    if (state != nullptr && PyDict_Check(state) &&
        fill(table.slots.back(), reader, parameter, grad.ptr(), state, keys, min_ndim)) {
      table.members.push_back(i);
      table.weights.append(nb::handle(parameter));
      table.held.push_back(std::move(grad));
    } else {
      if (PyErr_Occurred() != nullptr) throw nb::python_error();
      table.slots.pop_back();
      table.rest.push_back(i);
    }
  }
  return table;
}

}  // namespace dwf
