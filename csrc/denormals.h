// Whether this thread's arithmetic takes denormal numbers for zero.

#pragma once

#include <cstdint>

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace dwf {

// Sets the mode for as long as the object lives. Arithmetic on denormals takes up to a hundred times as long.
class Denormals {
 public:
  explicit Denormals(bool flush) : saved_(read()) {
    write(flush ? saved_ | kFlush : saved_ & ~kFlush);
  }
  ~Denormals() { write(saved_); }
  Denormals(const Denormals&) = delete;
  Denormals& operator=(const Denormals&) = delete;

 private:
#if defined(__SSE2__) || defined(_M_X64)
  using Word = unsigned int;
  static constexpr Word kFlush = 0x8040;  // results (FTZ) and operands (DAZ)
  static Word read() { return _mm_getcsr(); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(__aarch64__)
  using Word = std::uint64_t;
  static constexpr Word kFlush = Word{1} << 24;  // FZ: both
  static Word read() {
    Word word;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { __asm__ __volatile__("msr fpcr, %0" : : "r"(word)); }
#else
  using Word = int;
  static constexpr Word kFlush = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif

  Word saved_;
};

}  // namespace dwf
