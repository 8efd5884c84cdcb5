// What this library needs of onnxruntime's C interface, in our own words: the PyPI wheel has no headers.
//
// The interface is a table of function pointers, OrtApi, that only ever grows at its end: a function keeps its place in
// every version that has it. So a place, and what the function takes, is all there is to know of one. The same holds for
// the fields of OrtCustomOp, which the library fills in for onnxruntime to call. Source: onnxruntime_c_api.h and
// onnxruntime_c_api.cc of github.com/microsoft/onnxruntime, versions 1.18 to 1.25, checked by running 1.31.

#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;
struct OrtApi;  // the table
struct OrtCustomOp;

struct OrtApiBase {
  const OrtApi* (*get_api)(std::uint32_t version);  // null for a version that is newer than the runtime
  const char* (*get_version_string)();
};

}  // extern "C"

namespace dwf::ort {

// onnxruntime 1.18: the first whose OrtCustomOp is as below.
constexpr std::uint32_t kApiVersion = 18;
constexpr int kFloat = 1;                  // ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
constexpr int kVariadic = 2;               // INPUT_OUTPUT_VARIADIC
constexpr int kFail = 1;                   // ORT_FAIL
constexpr int kDefaultMemory = 0;          // OrtMemTypeDefault

// The place of a function in the table, and its type.
template <std::size_t place, class Function>
struct Entry;

template <std::size_t place, class Result, class... Arguments>
struct Entry<place, Result(Arguments...)> {
  Result operator()(const OrtApi* api, Arguments... arguments) const {
    using Pointer = Result (*)(Arguments...);
    return reinterpret_cast<const Pointer*>(api)[place](arguments...);
  }
};

// Those that return a status return null where all went well, and else what release_status has to be called with.
constexpr Entry<0, OrtStatus*(int code, const char* message)> create_status;
constexpr Entry<26, OrtStatus*(const char* name, OrtCustomOpDomain** made)> create_domain;
constexpr Entry<27, OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)> add_op;
constexpr Entry<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)> add_domain;
constexpr Entry<51, OrtStatus*(OrtValue*, void** data)> tensor_data;
constexpr Entry<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::size_t*)> dimensions_count;
constexpr Entry<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, std::int64_t*, std::size_t)> dimensions;
constexpr Entry<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)> tensor_type_and_shape;
// Gives the size, with the zero at the end, where `text` is null.
constexpr Entry<87, OrtStatus*(const OrtKernelInfo*, const char* name, char* text, std::size_t* size)> attribute_string;
constexpr Entry<90, OrtStatus*(const OrtKernelContext*, std::size_t, const OrtValue**)> input;
constexpr Entry<91, OrtStatus*(OrtKernelContext*, std::size_t, const std::int64_t*, std::size_t, OrtValue**)> output;
constexpr Entry<99, void(OrtTensorTypeAndShapeInfo*)> release_shape;
constexpr Entry<230, OrtStatus*(const OrtKernelInfo*, std::size_t*)> input_count;
constexpr Entry<231, OrtStatus*(const OrtKernelInfo*, std::size_t*)> output_count;
constexpr Entry<237, OrtStatus*(const OrtSessionOptions*, const char* key, int* found)> has_config;
constexpr Entry<238, OrtStatus*(const OrtSessionOptions*, const char* key, char* text, std::size_t* size)> get_config;

}  // namespace dwf::ort

// What an operator is: functions that onnxruntime calls. Those from `version` 18 on are all there.
struct OrtCustomOp {
  std::uint32_t version;
  void* (*create_kernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*name)(const OrtCustomOp*);
  const char* (*execution_provider)(const OrtCustomOp*);
  int (*input_type)(const OrtCustomOp*, std::size_t);
  std::size_t (*input_type_count)(const OrtCustomOp*);
  int (*output_type)(const OrtCustomOp*, std::size_t);
  std::size_t (*output_type_count)(const OrtCustomOp*);
  void (*compute)(void* kernel, OrtKernelContext*);
  void (*destroy_kernel)(void* kernel);
  int (*input_characteristic)(const OrtCustomOp*, std::size_t);
  int (*output_characteristic)(const OrtCustomOp*, std::size_t);
  int (*input_memory)(const OrtCustomOp*, std::size_t);
  int (*least_inputs)(const OrtCustomOp*);
  int (*inputs_alike)(const OrtCustomOp*);
  int (*least_outputs)(const OrtCustomOp*);
  int (*outputs_alike)(const OrtCustomOp*);
  // Used instead of create_kernel and compute where they are not null.
  OrtStatus* (*create_kernel_or_fail)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*, void** kernel);
  OrtStatus* (*compute_or_fail)(void* kernel, OrtKernelContext*);
  OrtStatus* (*infer_shapes)(const OrtCustomOp*, void* context);  // may be null
  int (*first_version)(const OrtCustomOp*);
  int (*last_version)(const OrtCustomOp*);
  // Which outputs may share memory with inputs; may be null.
  std::size_t (*may_replace)(int** inputs, int** outputs);
  void (*release_may_replace)(int* inputs, int* outputs);
  std::size_t (*aliases)(int** inputs, int** outputs);
  void (*release_aliases)(int* inputs, int* outputs);
};
