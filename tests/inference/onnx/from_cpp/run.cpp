// A server in C++, in small: opens a model in onnxruntime with the operator's library, and writes what it computes.
// Usage: run LIBONNXRUNTIME LIBDWF MODEL INPUT OUTPUT BATCH FEATURES <x >y, with names of input and output, and float32.

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "onnxruntime/c_api.h"

struct OrtEnv;
struct OrtMemoryInfo;
struct OrtRunOptions;
struct OrtSession;

namespace {

using dwf::ort::Entry;

constexpr Entry<2, const char*(const OrtStatus*)> error_message;
constexpr Entry<3, OrtStatus*(int level, const char* name, OrtEnv**)> create_env;
constexpr Entry<7, OrtStatus*(const OrtEnv*, const char* path, const OrtSessionOptions*, OrtSession**)> create_session;
constexpr Entry<9, OrtStatus*(OrtSession*, const OrtRunOptions*, const char* const* input_names,
                              const OrtValue* const* inputs, std::size_t, const char* const* output_names, std::size_t,
                              OrtValue** outputs)>
    run;
constexpr Entry<10, OrtStatus*(OrtSessionOptions**)> create_options;
constexpr Entry<29, OrtStatus*(OrtSessionOptions*, const char* path, void** handle)> register_library;
constexpr Entry<49, OrtStatus*(const OrtMemoryInfo*, void* data, std::size_t bytes, const std::int64_t* shape,
                               std::size_t rank, int type, OrtValue**)>
    tensor_on;
constexpr Entry<69, OrtStatus*(int allocator, int memory, OrtMemoryInfo**)> cpu_memory;

const OrtApi* api = nullptr;

void check(OrtStatus* status) {
  if (status == nullptr) return;
  std::fprintf(stderr, "%s\n", error_message(api, status));
  std::exit(1);
}

}  // namespace

int main(int, char** arguments) {
  void* const runtime = dlopen(arguments[1], RTLD_NOW);
  if (runtime == nullptr) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  const auto base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(runtime, "OrtGetApiBase"))();
  api = base->get_api(dwf::ort::kApiVersion);

  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  void* library = nullptr;
  check(create_env(api, 2, "run", &env));
  check(create_options(api, &options));
  check(register_library(api, options, arguments[2], &library));
  check(create_session(api, env, arguments[3], options, &session));

  const std::int64_t shape[] = {std::atoll(arguments[6]), std::atoll(arguments[7])};
  std::vector<float> x(shape[0] * shape[1]);
  if (std::fread(x.data(), sizeof(float), x.size(), stdin) != x.size()) return 1;
  OrtMemoryInfo* memory = nullptr;
  OrtValue *from = nullptr, *to = nullptr;
  check(cpu_memory(api, 0, 0, &memory));
  check(tensor_on(api, memory, x.data(), x.size() * sizeof(float), shape, 2, dwf::ort::kFloat, &from));
  check(run(api, session, nullptr, arguments + 4, &from, 1, arguments + 5, 1, &to));

  OrtTensorTypeAndShapeInfo* made = nullptr;
  std::int64_t size[2] = {};
  void* y = nullptr;
  check(dwf::ort::tensor_type_and_shape(api, to, &made));
  check(dwf::ort::dimensions(api, made, size, 2));
  check(dwf::ort::tensor_data(api, to, &y));
  std::fwrite(y, sizeof(float), size[0] * size[1], stdout);
}
