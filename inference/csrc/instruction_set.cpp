#include "instruction_set.h"

#include <stdexcept>

namespace dwf {
namespace {

const std::vector<InstructionSet>& available() {
  static const std::vector<InstructionSet> sets = [] {
    std::vector<InstructionSet> found{InstructionSet::baseline};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      found.push_back(InstructionSet::avx2);
      if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
          __builtin_cpu_supports("avx512vl"))
        found.push_back(InstructionSet::avx512);
    }
#endif
    return found;
  }();
  return sets;
}

}  // namespace

const char* name_of(InstructionSet set) {
  switch (set) {
    case InstructionSet::baseline: return "baseline";
    case InstructionSet::avx2: return "avx2";
    case InstructionSet::avx512: return "avx512";
  }
  return "";
}

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const InstructionSet set : available()) names.emplace_back(name_of(set));
  return names;
}

InstructionSet find_instruction_set(const std::string& name) {
  if (name.empty()) return available().back();
  for (const InstructionSet set : available())
    if (name == name_of(set)) return set;
  throw std::invalid_argument("this machine or build has no instruction set \"" + name + "\"");
}

}  // namespace dwf
