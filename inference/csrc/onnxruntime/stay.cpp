#include "onnxruntime/stay.h"

#include <stdexcept>

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace dwf {
namespace {

bool pin() {
  static const char inside = 0;  // an address in this library
#if defined(_WIN32)
  HMODULE found = nullptr;
  return GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_PIN | GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, &inside, &found);
#else
  Dl_info info;
  return dladdr(&inside, &info) != 0 && dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE) != nullptr;
#endif
}

}  // namespace

void stay_loaded() {
  static const bool pinned = pin();
  if (!pinned) throw std::runtime_error("the library cannot be kept in memory");
}

}  // namespace dwf
