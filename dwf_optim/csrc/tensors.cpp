#include "tensors.h"


namespace dwf {
namespace {

// A Python attribute or call that failed is no tensor to us, and no error.
nb::object attribute(PyObject* object, const char* name) {
  PyObject* found = PyObject_GetAttrString(object, name);
  if (found == nullptr) PyErr_Clear();
  return nb::steal(found);
}

nb::object call(PyObject* object, const char* method) {
  PyObject* found = PyObject_CallMethod(object, method, nullptr);
  if (found == nullptr) PyErr_Clear();
  return nb::steal(found);
}

bool read_numbers(const nb::object& tuple, std::int64_t* numbers, int count) {
  if (!tuple.is_valid() || !PyTuple_Check(tuple.ptr()) || PyTuple_GET_SIZE(tuple.ptr()) != count) return false;
  for (int i = 0; i < count; ++i) {
    numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple.ptr(), i));
    if (PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      return false;
    }
  }
  return true;
}

}  // namespace

Reader::Reader(nb::tuple types, nb::tuple dtypes, nb::object strided, const TorchC& torch, nb::list examples)
    : types_(types), dtypes_(dtypes), strided_(strided), torch_(torch), by_functions_(torch.works()) {
  for (nb::handle example : examples) by_functions_ = by_functions_ && agrees(example.ptr());
}

bool Reader::agrees(PyObject* example) const {
  View view, expected;
  if (!torch_.read(example, view) || !read_attributes(example, expected)) return false;
  if (view.data != expected.data || view.type != expected.type || view.ndim != expected.ndim) return false;
  for (int d = 0; d < view.ndim; ++d)
    if (view.shape[d] != expected.shape[d] || view.strides[d] != expected.strides[d]) return false;
  return true;
}

bool Reader::knows(PyObject* tensor) const {
  PyObject* const type = reinterpret_cast<PyObject*>(Py_TYPE(tensor));
  const std::size_t count = nb::len(types_);
  for (std::size_t i = 0; i < count; ++i)
    if (PyTuple_GET_ITEM(types_.ptr(), i) == type) return true;
  return false;
}

void Reader::fetch(PyObject* const* tensors, std::size_t count) const {
  if (!by_functions_) return;
  for (std::size_t i = 0; i < count; ++i)
    if (knows(tensors[i])) torch_.fetch_implementation(tensors[i]);
  for (std::size_t i = 0; i < count; ++i)
    if (knows(tensors[i])) torch_.fetch_storage(tensors[i]);
}

bool Reader::read(PyObject* tensor, View& view) const {
  return knows(tensor) && (by_functions_ ? torch_.read(tensor, view) : read_attributes(tensor, view));
}

bool Reader::read_attributes(PyObject* tensor, View& view) const {
  if (!attribute(tensor, "layout").is(strided_) || !attribute(tensor, "is_cpu").is(nb::handle(Py_True))) return false;
  const nb::object dtype = attribute(tensor, "dtype");
  if (dtype.is(dtypes_[0])) {
    view.type = Type::f32;
  } else if (dtype.is(dtypes_[1])) {
    view.type = Type::bf16;
  } else if (dtype.is(dtypes_[2])) {
    view.type = Type::f16;
  } else {
    return false;
  }
  const nb::object shape = attribute(tensor, "shape"), address = call(tensor, "data_ptr");
  if (!shape.is_valid() || !address.is_valid() || !PyTuple_Check(shape.ptr())) return false;
  view.ndim = static_cast<int>(PyTuple_GET_SIZE(shape.ptr()));
  if (view.ndim > View::kMaxDims || !read_numbers(shape, view.own_shape, view.ndim) ||
      !read_numbers(call(tensor, "stride"), view.own_strides, view.ndim))
    return false;
  view.shape = view.own_shape;
  view.strides = view.own_strides;
  view.size = 1;
  for (int d = 0; d < view.ndim; ++d) view.size *= static_cast<std::size_t>(view.shape[d]);
  view.data = PyLong_AsVoidPtr(address.ptr());
  return view.data != nullptr || view.size == 0;
}

}  // namespace dwf
