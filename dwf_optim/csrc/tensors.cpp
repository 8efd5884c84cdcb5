#include "tensors.h"

#include "dlpack.h"

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

bool is_dense(const View& view) {
  if (view.strides == nullptr || view.size == 0) return true;
  std::int64_t expected = 1;
  int dim = view.ndim - 1;
  while (dim >= 0 && (view.shape[dim] == 1 || view.strides[dim] == expected)) expected *= view.shape[dim--];
  if (dim < 0) return true;  // the usual case, contiguous
  // In another order each dimension's stride is the size of all those with shorter strides.
  if (view.ndim > View::kMaxDims) return false;
  expected = 1;
  for (int left = view.ndim; left > 0; --left) {
    // The dimensions found so far have strides below `expected`, so the next one has exactly that.
    int found = -1;
    for (int d = 0; d < view.ndim; ++d)
      if (view.shape[d] > 1 && view.strides[d] == expected) found = d;
    if (found < 0) break;
    expected *= view.shape[found];
  }
  return expected == static_cast<std::int64_t>(view.size);
}

bool same_layout(const View& left, const View& right) {
  if (left.ndim != right.ndim) return false;
  for (int d = 0; d < left.ndim; ++d)
    if (left.shape[d] != right.shape[d]) return false;
  if (left.strides == nullptr && right.strides == nullptr) return true;
  std::int64_t left_stride = 1, right_stride = 1;  // of a contiguous tensor
  for (int d = left.ndim - 1; d >= 0; --d) {
    const std::int64_t a = left.strides ? left.strides[d] : left_stride;
    const std::int64_t b = right.strides ? right.strides[d] : right_stride;
    if (left.shape[d] > 1 && a != b) return false;
    left_stride *= left.shape[d];
    right_stride *= right.shape[d];
  }
  return true;
}

Reader::Reader(nb::tuple types, nb::tuple dtypes, nb::object strided, nb::object exchange)
    : types_(types), dtypes_(dtypes), strided_(strided) {
  if (exchange.is_none()) return;
  const auto* api = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
  if (api == nullptr) throw nb::python_error();
  if (api->version.major == 1) exchange_ = api->describe;
}

bool Reader::read(PyObject* tensor, View& view) const {
  bool known = false;
  for (nb::handle type : types_) known |= reinterpret_cast<PyObject*>(Py_TYPE(tensor)) == type.ptr();
  return known && (exchange_ != nullptr ? read_exchange(tensor, view) : read_attributes(tensor, view));
}

bool Reader::read_exchange(PyObject* tensor, View& view) const {
  DLTensor found;
  if (exchange_(tensor, &found) != 0) {
    PyErr_Clear();
    return false;
  }
  if (found.device.type != kCpu || found.dtype.lanes != 1) return false;
  if (found.dtype.code == kFloat && found.dtype.bits == 32) {
    view.type = Type::f32;
  } else if (found.dtype.code == kFloat && found.dtype.bits == 16) {
    view.type = Type::f16;
  } else if (found.dtype.code == kBfloat && found.dtype.bits == 16) {
    view.type = Type::bf16;
  } else {
    return false;
  }
  view.data = static_cast<char*>(found.data) + found.byte_offset;
  view.ndim = found.ndim;
  view.shape = found.shape;
  view.strides = found.strides;
  view.size = 1;
  for (int d = 0; d < view.ndim; ++d) view.size *= static_cast<std::size_t>(view.shape[d]);
  return found.data != nullptr || view.size == 0;
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
