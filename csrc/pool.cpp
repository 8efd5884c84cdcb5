#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace dwf {
namespace {

class Pool {
 public:
  explicit Pool(int process) : process_(process) {}

  int process() const { return process_; }

  void run(int threads, const std::function<void()>& work) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (work_ != nullptr || !grow(threads - 1)) {
      // Another Python thread is stepping its optimizer, or the system gives no thread: do it alone.
      lock.unlock();
      work();
      return;
    }
    work_ = &work;
    places_ = threads - 1;
    lock.unlock();
    wake_.notify_all();
    work();
    lock.lock();
    places_ = 0;  // who has not begun by now need not
    done_.wait(lock, [this] { return running_ == 0; });
    work_ = nullptr;
  }

 private:
  bool grow(int helpers) {
    try {
      for (; helpers_ < helpers; ++helpers_) std::thread([this] { help(); }).detach();
    } catch (const std::system_error&) {
    }
    return helpers_ > 0;
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return places_ > 0; });
      --places_;
      ++running_;
      const std::function<void()>& work = *work_;
      lock.unlock();
      work();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  const int process_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const std::function<void()>* work_ = nullptr;
  int helpers_ = 0;
  int places_ = 0;   // helpers that may still join
  int running_ = 0;  // helpers at work
};

int current_process() {
#if defined(_WIN32)
  return 0;
#else
  return getpid();
#endif
}

// Never destroyed: its threads are detached and sleep until the process ends. A forked child has none of them, so it makes
// itself another pool; and there is no lock here that a thread of the parent could have held.
Pool& pool() {
  static std::atomic<Pool*> shared{nullptr};
  const int process = current_process();
  Pool* found = shared.load(std::memory_order_acquire);
  if (found != nullptr && found->process() == process) return *found;
  auto made = std::make_unique<Pool>(process);
  // If another thread was faster, its pool is found.
  if (!shared.compare_exchange_strong(found, made.get(), std::memory_order_acq_rel)) return *found;
  return *made.release();
}

}  // namespace

void run_on_threads(int threads, const std::function<void()>& work) {
  if (threads <= 1) {
    work();
  } else {
    pool().run(threads, work);
  }
}

}  // namespace dwf
