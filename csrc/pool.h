// Threads that wait for work.

#pragma once

#include <functional>

namespace dwf {

// Calls `work` on up to `threads` threads at once, the calling one included, and returns when all calls have. Every call
// has to take its share from a common counter: a thread that wakes up late may find nothing left, and is not waited for.
//
// Threads of our own, because an OpenMP runtime beside the one that torch bundles would start a second pool anyway, which
// spins for work while torch's does, and an OpenMP region waits for every thread of it, however late it is woken.
void run_on_threads(int threads, const std::function<void()>& work);

}  // namespace dwf
