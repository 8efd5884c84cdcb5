// Which of the compiled instruction sets this machine has.

#pragma once

#include <string>
#include <vector>

#include "passes.h"
#include "slot.h"

namespace dwf {

// Names, the narrowest first.
std::vector<std::string> instruction_sets();

// The kernel of a set by name, or of the widest one if the name is empty. Throws std::invalid_argument for a set that is
// not here.
Kernel find_kernel(Rule rule, int depth, Storage storage, const std::string& instruction_set);

// The passes around a base's step of so many factors, likewise.
Passes find_passes(int depth, const std::string& instruction_set);

}  // namespace dwf
