// A convolution with its bias, what is added to it, and its activation.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "activation.h"
#include "builder.h"
#include "kernels/activate.h"
#include "kernels/gather.h"
#include "memory.h"
#include "op.h"
#include "ops/conv_matrix.h"
#include "ops/filters.h"
#include "ops/window.h"

namespace dwf {

class Conv : public Op {
 public:
  static constexpr std::size_t kChoose = ~std::size_t{0};

  // added: the value that is added to the sums before the activation, or -1.
  // bias: of each output channel, or of each element of the output.
  // panel: bytes of a tile's inputs that the output channels share before the next inputs take their turn; 0 for all inputs
  // at once, kChoose for what the number of weights suggests.
  Conv(const Builder& builder, int input, int added, int output, const Window& window, std::size_t groups,
       const Weights& weights, std::vector<float> bias, Activation activation, std::size_t panel);

  void run(const Tile& tile) const override;
  std::size_t scratch(std::size_t lanes) const override;
  const char* kernel() const override { return kernel_; }
  std::size_t bytes() const override;

 private:
  // The outputs of a lone image that are computed together: some rows' worth of them, side by side in runs of kRun.
  struct Stretch {
    std::size_t position, runs;
    std::size_t rows, columns;  // as which the runs are taken: any that make as many
    std::vector<Segment> from, to, added;
  };

  std::size_t panel_channels(const Taps& taps, const Weights& weights, std::size_t panel, std::size_t widest) const;
  void plan_stretches();
  std::vector<Segment> segments(const Stretch& stretch, const Layout& layout, std::size_t stride_rows,
                                std::size_t stride_columns) const;
  void plan_gathering(const Taps& taps, const Weights& weights, const std::vector<std::uint32_t>& positions);
  void run_in_place(const Tile& tile) const;
  void run_gathered(const Tile& tile) const;
  void run_matrix(const Tile& tile) const;
  void finish(float* to, std::size_t lanes) const;

  const InstructionSet set_;
  const Layout from_, to_, added_;
  const bool adds_;
  const Window window_;
  const Activation activation_;
  const bool limited_;  // the activation is one of limits, which the kernels apply
  float low_, high_;
  const char* const kernel_;
  AlignedVector<float> bias_, map_;  // one of them may be empty

  // Windows where they are: for tiles, and for a lone image whose rows fill registers.
  const bool shifted_;
  std::vector<Part> parts_;
  std::unique_ptr<const Filters> filters_;
  std::size_t corner_;  // the position of the first output's window

  // For another lone image: a matrix where that is less work.
  std::unique_ptr<const ConvMatrix> matrix_;

  // Or its windows are gathered, but where each is a position.
  std::vector<Part> single_parts_;
  std::unique_ptr<const Filters> single_filters_;
  std::vector<std::vector<std::uint32_t>> gathered_;  // of each part, where the taps that are used begin
  std::vector<Stretch> stretches_;
  std::size_t most_gathered_ = 0, most_runs_ = 0;
  bool from_direct_ = false, to_direct_ = false;
};

}  // namespace dwf
