#include "dispatch.h"

#include <stdexcept>

#include "kernel.h"

namespace dwf {
namespace {

struct InstructionSet {
  const char* name;
  Kernel (*full)(Rule rule, int depth);
  Kernel (*root)(Rule rule, int depth, Storage storage);
  Kernel (*gated)(Rule rule);
  Passes (*passes)(int depth);

  Kernel kernel(Rule rule, int depth, Storage storage) const {
    switch (storage) {
      case Storage::full: return full(rule, depth);
      case Storage::gated: return gated(rule);
      default: return root(rule, depth, storage);
    }
  }
};

std::vector<InstructionSet> detect() {
  // On ARM the baseline has NEON.
  std::vector<InstructionSet> found{{"baseline", baseline::kernel, baseline::root_kernel, baseline::gate_kernel, baseline::passes}};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2"))
    found.push_back({"avx2", avx2::kernel, avx2::root_kernel, avx2::gate_kernel, avx2::passes});
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    found.push_back({"avx512", avx512::kernel, avx512::root_kernel, avx512::gate_kernel, avx512::passes});
#endif
  return found;
}

const std::vector<InstructionSet>& available() {
  static const std::vector<InstructionSet> sets = detect();
  return sets;
}

const InstructionSet& find_set(int depth, const std::string& name) {
  if (depth < 2 || depth > kMaxDepth) throw std::invalid_argument("no kernel for depth " + std::to_string(depth));
  if (name.empty()) return available().back();
  for (const InstructionSet& set : available())
    if (set.name == name) return set;
  throw std::invalid_argument("this machine or build has no instruction set \"" + name + "\"");
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : available()) names.emplace_back(set.name);
  return names;
}

Kernel find_kernel(Rule rule, int depth, Storage storage, const std::string& instruction_set) {
  return find_set(depth, instruction_set).kernel(rule, depth, storage);
}

Passes find_passes(int depth, const std::string& instruction_set) {
  return find_set(depth, instruction_set).passes(depth);
}

}  // namespace dwf
