// Keeping the library in memory.

#pragma once

namespace dwf {

// From now on, no one can unload the library that this is in. The pool's threads are in it until the process ends, while
// onnxruntime unloads a library with the last session that uses it: a thread that wakes up, or has yet to begin, would
// find no code.
void stay_loaded();

}  // namespace dwf
