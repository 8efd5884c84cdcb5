#include "around.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "dispatch.h"
#include "passes.h"
#include "pool.h"

namespace dwf {
namespace {

// Elements in a thread's share, as of a step.
constexpr std::size_t kShare = 16 * 1024;

// Reads tensors that must all lie in memory like the first.
class Alike {
 public:
  Alike(const Reader& reader, nb::handle first) : reader_(reader) {
    good_ = reader.read(first.ptr(), first_) && is_dense(first_);
  }

  std::size_t size() const { return first_.size; }
  bool good() const { return good_; }

  // The address of a tensor's first element. float32, unless its type is asked for.
  void* address(nb::handle tensor, Type* type = nullptr) {
    View view;
    good_ = good_ && reader_.read(tensor.ptr(), view) && same_layout(view, first_) && (type || view.type == Type::f32);
    if (type != nullptr) *type = view.type;
    return view.data;
  }

  // Those of a list.
  std::vector<float*> addresses(nb::list tensors) {
    std::vector<float*> found;
    for (nb::handle tensor : tensors) found.push_back(static_cast<float*>(address(tensor)));
    return found;
  }

  // Those of a list that have the shape of the first.
  std::vector<float*> addresses_where_shaped(nb::list tensors) {
    std::vector<float*> found;
    for (nb::handle tensor : tensors) {
      View view;
      const bool read = reader_.read(tensor.ptr(), view);
      if (read && !same_shape(view, first_)) continue;
      good_ = good_ && read && same_layout(view, first_) && view.type == Type::f32;
      found.push_back(static_cast<float*>(view.data));
    }
    return found;
  }

 private:
  const Reader& reader_;
  View first_;
  bool good_;
};

void run(Pass pass, const Block& block, float number, int threads) {
  const std::size_t shares = (block.size + kShare - 1) / kShare;
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < shares;)
      pass(block, number, i * kShare, std::min((i + 1) * kShare, block.size));
  };
  const nb::gil_scoped_release others_may_run;
  run_on_threads(static_cast<int>(std::min<std::size_t>(threads, shares)), work);
}

bool has_depth(nb::list factors) { return nb::len(factors) >= 2 && nb::len(factors) <= std::size_t{kMaxDepth}; }

}  // namespace

bool factor_gradients(const Reader& reader, nb::list factors, nb::handle grad, float decay, nb::list out, int threads,
                      const std::string& instruction_set) {
  if (!has_depth(factors) || nb::len(out) != nb::len(factors)) return false;
  Alike alike(reader, factors[0]);
  const std::vector<float*> from = alike.addresses(factors), to = alike.addresses(out);
  Block block;
  block.size = alike.size();
  block.grad = alike.address(grad, &block.grad_type);
  if (!alike.good()) return false;
  std::copy(from.begin(), from.end(), block.factors);
  std::copy(to.begin(), to.end(), block.gradients);
  run(find_passes(static_cast<int>(from.size()), instruction_set).gradients, block, decay, threads);
  return true;
}

bool finish(const Reader& reader, nb::list factors, nb::list state, nb::handle weight, float dead, int threads,
            const std::string& instruction_set) {
  if (!has_depth(factors)) return false;
  Alike alike(reader, factors[0]);
  const std::vector<float*> from = alike.addresses(factors), base = alike.addresses_where_shaped(state);
  Block block;
  block.size = alike.size();
  block.weight = alike.address(weight, &block.weight_type);
  if (!alike.good()) return false;
  std::copy(from.begin(), from.end(), block.factors);
  block.state = base.data();
  block.states = base.size();
  run(find_passes(static_cast<int>(from.size()), instruction_set).finish, block, dead, threads);
  return true;
}

}  // namespace dwf
