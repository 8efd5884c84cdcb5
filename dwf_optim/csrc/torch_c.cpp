#include "torch_c.h"

#include "nearby.h"

namespace dwf {
namespace {

// Bytes of torch's objects that are looked at.
constexpr std::size_t kImplementation = 176, kStorage = 64;

const char* inside(const void* object, std::size_t offset) { return static_cast<const char*>(object) + offset; }

const void* pointer(const void* object, std::size_t offset) {
  return *reinterpret_cast<const void* const*>(inside(object, offset));
}

// Where among the bytes of an object an address stands; 0 if nowhere, or at more than one place.
std::size_t find(const void* object, std::size_t size, std::uintptr_t address) {
  std::size_t found = 0;
  for (std::size_t offset = sizeof(void*); offset + sizeof(void*) <= size; offset += sizeof(void*)) {
    if (reinterpret_cast<std::uintptr_t>(pointer(object, offset)) != address) continue;
    if (found != 0) return 0;
    found = offset;
  }
  return found;
}

template <class Function>
void set(Function& function, std::uintptr_t address) {
  function = reinterpret_cast<Function>(address);
}

}  // namespace

TorchC::TorchC(const std::vector<std::uintptr_t>& functions, const std::vector<std::int32_t>& constants,
               nb::handle example, std::uintptr_t implementation, std::uintptr_t storage) {
  if (functions.size() != 7 || constants.size() != 5) return;
  set(data_ptr_, functions[0]);
  set(dim_, functions[1]);
  set(sizes_, functions[2]);
  set(strides_, functions[3]);
  set(dtype_, functions[4]);
  set(device_type_, functions[5]);
  set(layout_, functions[6]);
  float32_ = constants[0];
  bfloat16_ = constants[1];
  float16_ = constants[2];
  cpu_ = constants[3];
  strided_ = constants[4];
  const auto size = static_cast<std::size_t>(Py_TYPE(example.ptr())->tp_basicsize);
  implementation_at_ = find(example.ptr(), size, implementation);
  storage_at_ = find(reinterpret_cast<const void*>(implementation), kStorage, storage);
}

bool TorchC::read(PyObject* tensor, View& view) const {
  const void* const handle = inside(tensor, implementation_at_);
  std::int32_t device = 0, layout = 0, dtype = 0;
  if (device_type_(handle, &device) != 0 || device != cpu_) return false;
  if (layout_(handle, &layout) != 0 || layout != strided_) return false;
  if (dtype_(handle, &dtype) != 0) return false;
  if (dtype == float32_) {
    view.type = Type::f32;
  } else if (dtype == bfloat16_) {
    view.type = Type::bf16;
  } else if (dtype == float16_) {
    view.type = Type::f16;
  } else {
    return false;
  }
  std::int64_t dim = 0, *sizes = nullptr, *strides = nullptr;
  if (dim_(handle, &dim) != 0 || sizes_(handle, &sizes) != 0 || strides_(handle, &strides) != 0) return false;
  if (data_ptr_(handle, &view.data) != 0) return false;
  view.ndim = static_cast<int>(dim);
  view.shape = sizes;
  view.strides = strides;
  view.size = 1;
  for (int d = 0; d < view.ndim; ++d) view.size *= static_cast<std::size_t>(view.shape[d]);
  return view.data != nullptr || view.size == 0;
}

void TorchC::fetch_implementation(PyObject* tensor) const { fetch(pointer(tensor, implementation_at_), kImplementation); }

void TorchC::fetch_storage(PyObject* tensor) const {
  fetch(pointer(pointer(tensor, implementation_at_), storage_at_), kStorage);
}

}  // namespace dwf
