// The weights of a convolution as its kernels want them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "inputs.h"
#include "instruction_set.h"
#include "kernels/conv.h"

namespace dwf {

// What the weights are multiplied with: a *tap* is an input channel and a place in the window, counted as in torch's
// weights.
struct Taps {
  std::size_t inputs, outputs;  // channels
  std::size_t window;           // places in the window
  std::size_t groups;

  std::size_t inputs_of_group() const { return inputs / groups; }
  std::size_t outputs_of_group() const { return outputs / groups; }
  std::size_t size() const { return inputs * window; }
  // The tap of a weight, by the output channel and the weight's place in it.
  std::size_t tap(std::size_t output, std::size_t weight) const {
    return output / outputs_of_group() * inputs_of_group() * window + weight;
  }
};

// A part of a convolution, which becomes a Panel.
struct Part {
  std::size_t input, inputs;    // channels: the first, how many
  std::size_t output, outputs;
  bool opens, closes;
};

// Cuts a convolution so that no part has more input channels than `most`. A part may hold several groups if `mixed`.
std::vector<Part> cut(const Taps& taps, std::size_t most, bool mixed);

// Weights, packed for one way to lay inputs out.
class Filters {
 public:
  virtual ~Filters() = default;
  // Runs `count` parts from `first` on.
  virtual void run(std::size_t first, std::size_t count, const Field& field, const float* from, const Ends& ends,
                   float* to) const = 0;
  virtual std::size_t bytes() const = 0;
};

// Weights before they are packed.
class Weights {
 public:
  virtual ~Weights() = default;
  virtual const char* kernel() const = 0;
  // Whether one part may hold several groups.
  virtual bool mixed() const = 0;
  virtual std::size_t size() const = 0;
  // As rows by output channel, where they are kept so; otherwise null.
  virtual const Csr* rows() const { return nullptr; }
  // Which taps any weight of a part needs.
  virtual std::vector<std::uint32_t> used(const Taps& taps, const Part& part) const = 0;
  // offsets: of every tap, in Field::unit.
  virtual std::unique_ptr<const Filters> pack(InstructionSet set, const Taps& taps, const std::vector<Part>& parts,
                                              const std::vector<std::uint32_t>& offsets) const = 0;
};

// The rows of the matrix are output channels.
class SparseWeights : public Weights {
 public:
  explicit SparseWeights(const Csr& csr) : csr_(csr) {}
  const char* kernel() const override { return "sparse conv"; }
  bool mixed() const override { return true; }
  std::size_t size() const override { return csr_.size(); }
  const Csr* rows() const override { return &csr_; }
  std::vector<std::uint32_t> used(const Taps& taps, const Part& part) const override;
  std::unique_ptr<const Filters> pack(InstructionSet set, const Taps& taps, const std::vector<Part>& parts,
                                      const std::vector<std::uint32_t>& offsets) const override;

 private:
  const Csr csr_;
};

// [output][weight]
class DenseWeights : public Weights {
 public:
  DenseWeights(const float* weights, std::size_t size) : weights_(weights), size_(size) {}
  const char* kernel() const override { return "dense conv"; }
  bool mixed() const override { return false; }
  std::size_t size() const override { return size_; }
  std::vector<std::uint32_t> used(const Taps& taps, const Part& part) const override;
  std::unique_ptr<const Filters> pack(InstructionSet set, const Taps& taps, const std::vector<Part>& parts,
                                      const std::vector<std::uint32_t>& offsets) const override;

 private:
  const float* const weights_;
  const std::size_t size_;
};

}  // namespace dwf
