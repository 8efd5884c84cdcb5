// The arrays that a program is called with: NumPy's (or whatever has Python's buffer protocol) and torch's, read in a fraction
// of a microsecond.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace dwf {

namespace nb = nanobind;

// Which Python types are torch's tensors, whose memory holds what their values are, and DLPack's table of C functions
// that describes them (a capsule, of newer versions of torch) or None.
void register_tensors(nb::tuple types, nb::object exchange);

// Contiguous float32 in this machine's memory. Holds on to the object's memory as long as it lives.
class Array {
 public:
  Array() = default;
  ~Array();
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  // Throws nb::type_error or std::invalid_argument (Python's ValueError) that call the array `what`.
  void read(PyObject* object, bool writable, const char* what);

  float* data() const { return data_; }
  std::size_t ndim() const { return ndim_; }
  std::size_t shape(std::size_t dim) const { return static_cast<std::size_t>(shape_[dim]); }
  std::string shape() const;

 private:
  void read_buffer(PyObject* object, bool writable, const char* what);
  void read_tensor(PyObject* object, const char* what);

  float* data_ = nullptr;
  std::size_t ndim_ = 0;
  const std::int64_t* shape_ = nullptr;
  Py_buffer buffer_{};  // which holds on to its object
  nb::object tensor_;
};

}  // namespace dwf
