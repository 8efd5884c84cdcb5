#include "kernels/sparse_linear.h"

#include "kernels/fused.h"
#include "kernels/transpose.h"

namespace dwf {
namespace DWF_ISA {
namespace {

// Sums in registers at a time. A fused multiplication and addition takes four cycles, and two begin in each: eight sums that do not
// depend on each other keep the unit busy.
constexpr std::size_t kSums = 8;


// Some lanes of some rows that have equally many terms.
template <std::size_t kWidth, std::size_t kRegisters, std::size_t kRows, bool kRelu>
DWF_INLINE void add_rows(const Term* terms, std::size_t count, const std::uint32_t* outputs, const float* bias,
                         const float* from, float* to) {
  Lanes sums[kRows][kRegisters];
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t i = 0; i < kRegisters; ++i)
      sums[r][i] = bias != nullptr ? broadcast(bias[r]) : load_aligned(to + outputs[r] * kWidth + i * kLanes);
  for (std::size_t k = 0; k < count; ++k) {
    for (std::size_t r = 0; r < kRows; ++r) {
      const Term term = terms[r * count + k];
      const float* lanes = from + std::size_t{term.position} * kWidth;
      // One addition here, instead of one in each of the loads.
      __asm__("" : "+r"(lanes));
      for (std::size_t i = 0; i < kRegisters; ++i) sums[r][i] += term.weight * load_aligned(lanes + i * kLanes);
    }
  }
  for (std::size_t r = 0; r < kRows; ++r)
    for (std::size_t i = 0; i < kRegisters; ++i)
      store_aligned(to + outputs[r] * kWidth + i * kLanes, finish<kRelu>(sums[r][i]));
}

template <std::size_t kWidth, bool kRelu>
void add_piece(const Bucket* bucket, const Bucket* end, const std::uint32_t*& outputs, const Term*& terms,
               const float* bias, const float* from, float* to) {
  constexpr std::size_t kAll = kWidth / kLanes;
  constexpr std::size_t kRegisters = kAll < kSums ? kAll : kSums;
  constexpr std::size_t kRows = kSums / kRegisters;
  for (; bucket != end; ++bucket) {
    const std::size_t count = bucket->terms;
    std::size_t left = bucket->rows;
    for (; left >= kRows; left -= kRows) {
      for (std::size_t i = 0; i < kAll; i += kRegisters)
        add_rows<kWidth, kRegisters, kRows, kRelu>(terms, count, outputs, bias, from + i * kLanes, to + i * kLanes);
      terms += kRows * count;
      outputs += kRows;
      if (bias != nullptr) bias += kRows;
    }
    for (; left > 0; --left) {
      for (std::size_t i = 0; i < kAll; i += kRegisters)
        add_rows<kWidth, kRegisters, 1, kRelu>(terms, count, outputs, bias, from + i * kLanes, to + i * kLanes);
      terms += count;
      outputs += 1;
      if (bias != nullptr) bias += 1;
    }
  }
}

template <std::size_t kWidth>
void run(const Panels& panels, const float* from, Activation activation, float* to, const Rows& rows) {
  const std::uint32_t* outputs = panels.outputs;
  const Term* terms = panels.terms;
  const float* bias = panels.bias;
  const Bucket* bucket = panels.buckets;
  for (const Piece* piece = panels.pieces; piece != panels.pieces + panels.size; ++piece) {
    const Bucket* const end = panels.buckets + piece->end;
    float* const block = rows.to != nullptr ? to : to + std::size_t{piece->row} * kWidth;
    const float* const fresh = piece->first ? bias : nullptr;
    if (piece->last && activation.function == Function::relu) {
      add_piece<kWidth, true>(bucket, end, outputs, terms, fresh, from, block);
    } else {
      add_piece<kWidth, false>(bucket, end, outputs, terms, fresh, from, block);
    }
    bucket = end;
    if (piece->first) bias += piece->rows;
    if (!piece->last) continue;
    if (!is_cheap(activation.function)) activate(block, piece->rows * kWidth, activation, block);
    if (rows.to != nullptr)
      unpack_lanes(block, kWidth, rows.samples, piece->rows, rows.stride, {piece->rows, 1, 0, 0}, rows.to + piece->row);
  }
}

}  // namespace

void sparse_linear(const Panels& panels, const float* from, std::size_t lanes, Activation activation, float* to,
                   const Rows& rows) {
  switch (lanes) {
    case 16: return run<16>(panels, from, activation, to, rows);
    case 32: return run<32>(panels, from, activation, to, rows);
    case 64: return run<64>(panels, from, activation, to, rows);
  }
}

}  // namespace DWF_ISA
}  // namespace dwf
