#include "arrays.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "dlpack.h"
#include "inputs.h"

namespace dwf {
namespace {

// Set once, when the package is imported; never freed, as the interpreter is gone when static objects are.
struct Tensors {
  std::vector<PyTypeObject*> types;
  int (*describe)(void* tensor, void* out) = nullptr;
};

Tensors& tensors() {
  static Tensors* const instance = new Tensors;
  return *instance;
}

[[noreturn]] void refuse_type(const char* what, const std::string& problem) {
  throw nb::type_error((std::string(what) + " " + problem).c_str());
}

}  // namespace

void register_tensors(nb::tuple types, nb::object exchange) {
  Tensors& known = tensors();
  known.types.clear();
  for (nb::handle type : types) known.types.push_back(reinterpret_cast<PyTypeObject*>(type.inc_ref().ptr()));
  known.describe = nullptr;
  if (exchange.is_none()) return;
  const auto* api = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(exchange.ptr(), "dlpack_exchange_api"));
  if (api == nullptr) throw nb::python_error();
  if (api->version.major == 1) known.describe = api->describe;
}

Array::~Array() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

std::string Array::shape() const { return shape_of(ndim_, shape_); }

void Array::read(PyObject* object, bool writable, const char* what) {
  const auto& types = tensors().types;
  if (std::find(types.begin(), types.end(), Py_TYPE(object)) != types.end()) {
    read_tensor(object, what);
  } else {
    read_buffer(object, writable, what);
  }
  if (reinterpret_cast<std::uintptr_t>(data_) % alignof(float) != 0)
    throw std::invalid_argument(std::string(what) + " does not begin at a multiple of 4 bytes; copy it");
}

void Array::read_buffer(PyObject* object, bool writable, const char* what) {
  if (!PyObject_CheckBuffer(object))
    refuse_type(what, std::string("is of type ") + Py_TYPE(object)->tp_name + "; give a NumPy array or a torch tensor");
  if (PyObject_GetBuffer(object, &buffer_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    throw std::invalid_argument(std::string(what) + " cannot be read as a buffer");
  }
  const char* format = buffer_.format;
  if (format != nullptr && (*format == '=' || *format == '@')) ++format;
  if (format == nullptr || std::strcmp(format, "f") != 0)
    refuse_type(what, std::string("has elements of format '") + (buffer_.format != nullptr ? buffer_.format : "B") +
                          "'; convert it to float32");
  if (!PyBuffer_IsContiguous(&buffer_, 'C'))
    throw std::invalid_argument(std::string(what) + " is not contiguous; copy it by numpy.ascontiguousarray");
  if (writable && buffer_.readonly != 0) throw std::invalid_argument(std::string(what) + " is read-only");
  static_assert(sizeof(Py_ssize_t) == sizeof(std::int64_t));
  data_ = static_cast<float*>(buffer_.buf);
  ndim_ = static_cast<std::size_t>(buffer_.ndim);
  shape_ = reinterpret_cast<const std::int64_t*>(buffer_.shape);
}

void Array::read_tensor(PyObject* object, const char* what) {
  if (tensors().describe == nullptr) {
    // An older torch: its NumPy array shares the memory.
    PyObject* detached = PyObject_CallMethod(object, "detach", nullptr);
    if (detached == nullptr) throw nb::python_error();
    PyObject* array = PyObject_CallMethod(detached, "numpy", nullptr);
    Py_DECREF(detached);
    if (array == nullptr) throw nb::python_error();
    const nb::object owner = nb::steal(array);
    return read_buffer(array, false, what);  // the buffer keeps the array
  }
  tensor_ = nb::borrow(object);
  DLTensor found;
  if (tensors().describe(object, &found) != 0) {
    PyErr_Clear();
    refuse_type(what, "is no tensor in the CPU's memory; move it there");
  }
  if (found.device.type != kCpu) refuse_type(what, "is not on the CPU; move it there");
  if (found.dtype.code != kFloat || found.dtype.bits != 32 || found.dtype.lanes != 1)
    refuse_type(what, "is not float32; convert it");
  std::int64_t expected = 1;
  bool empty = false;
  for (int d = 0; d < found.ndim; ++d) empty |= found.shape[d] == 0;
  if (found.strides != nullptr && !empty) {
    for (int d = found.ndim - 1; d >= 0; --d) {
      if (found.shape[d] != 1 && found.strides[d] != expected)
        throw std::invalid_argument(std::string(what) + " is not contiguous; call contiguous() first");
      expected *= found.shape[d];
    }
  }
  data_ = reinterpret_cast<float*>(static_cast<char*>(found.data) + found.byte_offset);
  ndim_ = static_cast<std::size_t>(found.ndim);
  shape_ = found.shape;
  if (data_ == nullptr && !empty) throw std::invalid_argument(std::string(what) + " has no memory");
}

}  // namespace dwf
