// Which of the compiled instruction sets this machine has, and the kernels of one of them.

#pragma once

#include <string>
#include <vector>

namespace dwf {

enum class InstructionSet { baseline, avx2, avx512 };

// Names, the narrowest first. On ARM the baseline has NEON.
std::vector<std::string> instruction_sets();

// By name, or the widest one if the name is empty. Throws std::invalid_argument for a set that is not here.
InstructionSet find_instruction_set(const std::string& name);

const char* name_of(InstructionSet set);

}  // namespace dwf

// DWF_FOR_EACH_SET(void f(int);) declares f in the namespace of every set that is compiled for this kind of machine;
// DWF_KERNEL(set, f) is a pointer to the set's f.
#if defined(__x86_64__)
#define DWF_FOR_EACH_SET(...) \
  namespace baseline {        \
  __VA_ARGS__                 \
  }                           \
  namespace avx2 {            \
  __VA_ARGS__                 \
  }                           \
  namespace avx512 {          \
  __VA_ARGS__                 \
  }
#define DWF_KERNEL(set, name)                            \
  ((set) == ::dwf::InstructionSet::avx512 ? &avx512::name \
   : (set) == ::dwf::InstructionSet::avx2 ? &avx2::name   \
                                          : &baseline::name)
#else
#define DWF_FOR_EACH_SET(...) \
  namespace baseline {        \
  __VA_ARGS__                 \
  }
#define DWF_KERNEL(set, name) (static_cast<void>(set), &baseline::name)
#endif
