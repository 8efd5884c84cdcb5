// The library that onnxruntime loads: one operator, "SparseProgram" of domain "dwf".

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "onnxruntime/c_api.h"
#include "onnxruntime/loaded.h"
#include "onnxruntime/stay.h"

namespace dwf {
namespace {

constexpr const char* kDomain = "dwf";
constexpr const char* kOp = "SparseProgram";
constexpr const char* kAttribute = "program";
constexpr const char* kThreads = "dwf.threads";  // a session's config entry; 1 if it is not there
constexpr int kMostThreads = 1024;

// A call of onnxruntime's that failed, and why.
struct Failed {
  OrtStatus* status;
};

void check(OrtStatus* status) {
  if (status != nullptr) throw Failed{status};
}

// Calls a function; what it throws becomes a status.
template <class Function>
OrtStatus* guarded(const OrtApi* api, Function function) {
  try {
    function();
    return nullptr;
  } catch (const Failed& failed) {
    return failed.status;
  } catch (const std::exception& error) {
    return ort::create_status(api, ort::kFail, (std::string("dwf: ") + error.what()).c_str());
  } catch (...) {
    return ort::create_status(api, ort::kFail, "dwf: unknown error");
  }
}

[[noreturn]] void refuse(const std::string& problem) { throw std::invalid_argument(problem); }

struct Op : OrtCustomOp {
  int threads;
};

// One node of a model. Several threads may compute it at once.
class Kernel {
 public:
  Kernel(const OrtApi* api, const OrtKernelInfo* info, int threads)
      : api_(api), loaded_(read(api, info)), threads_(threads) {
    std::size_t inputs = 0, outputs = 0;
    check(ort::input_count(api, info, &inputs));
    check(ort::output_count(api, info, &outputs));
    if (inputs != loaded_.inputs.size() || outputs != loaded_.outputs.size())
      refuse("the node has not as many inputs and outputs as its program");
  }

  const OrtApi* api() const { return api_; }

  void compute(OrtKernelContext* context) const {
    std::vector<const float*> from(loaded_.inputs.size());
    std::vector<float*> to(loaded_.outputs.size());
    std::int64_t batch = 0;
    for (std::size_t k = 0; k < from.size(); ++k) {
      const OrtValue* value = nullptr;
      check(ort::input(api_, context, k, &value));
      if (value == nullptr) refuse("an input is left out");
      const std::int64_t size = batch_of(value, loaded_.inputs[k]);
      if (k > 0 && size != batch) refuse("inputs have batches of different sizes");
      batch = size;
      void* data = nullptr;
      check(ort::tensor_data(api_, const_cast<OrtValue*>(value), &data));
      from[k] = static_cast<const float*>(data);
    }
    for (std::size_t k = 0; k < to.size(); ++k) {
      std::vector<std::int64_t> shape{batch};
      shape.insert(shape.end(), loaded_.outputs[k].begin(), loaded_.outputs[k].end());
      OrtValue* value = nullptr;
      check(ort::output(api_, context, k, shape.data(), shape.size(), &value));
      if (value == nullptr) refuse("an output is left out");
      void* data = nullptr;
      check(ort::tensor_data(api_, value, &data));
      to[k] = static_cast<float*>(data);
    }
    loaded_.program->run(from.data(), to.data(), static_cast<std::size_t>(batch) * loaded_.rows, threads_);
  }

 private:
  static Loaded read(const OrtApi* api, const OrtKernelInfo* info) {
    std::size_t size = 0;
    check(ort::attribute_string(api, info, kAttribute, nullptr, &size));
    std::vector<char> bytes(size);
    check(ort::attribute_string(api, info, kAttribute, bytes.data(), &size));
    return load(bytes.data(), size > 0 ? size - 1 : 0);  // a zero is put behind it
  }

  // The first dimension of a tensor, if the others are as expected.
  std::int64_t batch_of(const OrtValue* value, const std::vector<std::int64_t>& expected) const {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(ort::tensor_type_and_shape(api_, value, &info));
    std::size_t rank = 0;
    OrtStatus* status = ort::dimensions_count(api_, info, &rank);
    std::vector<std::int64_t> shape(status == nullptr ? rank : 0);
    if (status == nullptr) status = ort::dimensions(api_, info, shape.data(), rank);
    ort::release_shape(api_, info);
    check(status);
    if (rank != expected.size() + 1 || !std::equal(expected.begin(), expected.end(), shape.begin() + 1))
      refuse("an input has shape " + text(shape, false) + ", expected " + text(expected, true));
    return shape[0];
  }

  static std::string text(const std::vector<std::int64_t>& shape, bool batched) {
    std::string made = batched ? "[batch" : "[";
    for (std::size_t d = 0; d < shape.size(); ++d) made += (d > 0 || batched ? ", " : "") + std::to_string(shape[d]);
    return made + "]";
  }

  const OrtApi* const api_;
  const Loaded loaded_;
  const int threads_;
};

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
  return guarded(api, [&] { *kernel = new Kernel(api, info, static_cast<const Op*>(op)->threads); });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const auto* self = static_cast<const Kernel*>(kernel);
  return guarded(self->api(), [&] { self->compute(context); });
}

Op make_op(int threads) {
  Op op{};
  op.version = ort::kApiVersion;
  op.threads = threads;
  op.create_kernel_or_fail = create_kernel;
  op.compute_or_fail = compute;
  op.destroy_kernel = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.name = [](const OrtCustomOp*) { return kOp; };
  op.execution_provider = [](const OrtCustomOp*) -> const char* { return nullptr; };  // the CPU
  op.input_type = op.output_type = [](const OrtCustomOp*, std::size_t) { return ort::kFloat; };
  op.input_type_count = op.output_type_count = [](const OrtCustomOp*) { return std::size_t{1}; };
  op.input_characteristic = op.output_characteristic = [](const OrtCustomOp*, std::size_t) { return ort::kVariadic; };
  op.input_memory = [](const OrtCustomOp*, std::size_t) { return ort::kDefaultMemory; };
  op.least_inputs = op.least_outputs = op.inputs_alike = op.outputs_alike = [](const OrtCustomOp*) { return 1; };
  op.first_version = [](const OrtCustomOp*) { return 1; };
  op.last_version = [](const OrtCustomOp*) { return 1; };
  op.may_replace = op.aliases = [](int**, int**) { return std::size_t{0}; };
  op.release_may_replace = op.release_aliases = [](int*, int*) {};
  return op;
}

int read_threads(const OrtApi* api, const OrtSessionOptions* options) {
  int found = 0;
  check(ort::has_config(api, options, kThreads, &found));
  if (found == 0) return 1;
  char text[16] = {};
  std::size_t size = sizeof text;
  check(ort::get_config(api, options, kThreads, text, &size));
  char* end = nullptr;
  const long threads = std::strtol(text, &end, 10);
  if (end == text || *end != '\0' || threads < 1 || threads > kMostThreads)
    refuse(std::string(kThreads) + " is \"" + text + "\"; give a number from 1 to " + std::to_string(kMostThreads));
  return static_cast<int>(threads);
}

// An operator with its domain for each number of threads. Sessions hold on to them for as long as they live, so they are
// never freed; there are few.
OrtCustomOpDomain* domain_for(const OrtApi* api, int threads) {
  static auto* const lock = new std::mutex;
  static auto* const domains = new std::map<int, OrtCustomOpDomain*>;
  const std::lock_guard<std::mutex> guard(*lock);
  OrtCustomOpDomain*& domain = (*domains)[threads];
  if (domain == nullptr) {
    OrtCustomOpDomain* made = nullptr;
    check(ort::create_domain(api, kDomain, &made));
    check(ort::add_op(api, made, new Op(make_op(threads))));
    domain = made;
  }
  return domain;
}

// The second number of a version as "1.18.0"; 0 if it is no such text.
long minor_version(const char* version) {
  const std::string text = version != nullptr ? version : "";
  if (text.compare(0, 2, "1.") != 0) return text.empty() || text[0] < '2' || text[0] > '9' ? 0 : ort::kApiVersion;
  return std::strtol(text.c_str() + 2, nullptr, 10);
}

}  // namespace
}  // namespace dwf

#if defined(_WIN32)
#define DWF_EXPORT __declspec(dllexport)
#else
#define DWF_EXPORT __attribute__((visibility("default")))
#endif

// What onnxruntime looks for in a library of operators.
extern "C" DWF_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace dwf;
  const char* const version = base->get_version_string();
  // Asked for a version that it has not, a runtime writes to stderr.
  const OrtApi* const api =
      minor_version(version) >= ort::kApiVersion ? base->get_api(ort::kApiVersion) : nullptr;
  if (api == nullptr) {
    const OrtApi* const first = base->get_api(1);
    if (first == nullptr) return nullptr;  // not even a status can be made
    return ort::create_status(first, ort::kFail,
                              (std::string("dwf: onnxruntime ") + (version != nullptr ? version : "of no version") +
                               " is too old; 1." + std::to_string(ort::kApiVersion) + " or later is needed")
                                  .c_str());
  }
  return guarded(api, [&] {
    stay_loaded();
    check(ort::add_domain(api, options, domain_for(api, read_threads(api, options))));
  });
}
