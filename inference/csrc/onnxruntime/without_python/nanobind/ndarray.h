// Arrays, as nanobind.h beside this has the rest.

#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "nanobind/nanobind.h"

namespace nanobind {

struct c_contig {};
template <std::size_t>
struct ndim {};
namespace device {
struct cpu {};
}  // namespace device

// Shares the value's memory.
template <class T, class... Options>
class ndarray {
 public:
  explicit ndarray(SharedValue value) : value_(std::move(value)) {}
  const T* data() const {
    if constexpr (std::is_same_v<T, const float>) {
      return value_->floats.data();
    } else {
      return value_->indices.data();
    }
  }
  std::size_t ndim() const { return value_->shape.size(); }
  std::size_t shape(std::size_t d) const { return static_cast<std::size_t>(value_->shape[d]); }
  const std::int64_t* shape_ptr() const { return value_->shape.data(); }
  std::size_t size() const {
    return std::is_same_v<T, const float> ? value_->floats.size() : value_->indices.size();
  }

 private:
  SharedValue value_;
};

template <class T, class... Options>
struct Taken<ndarray<T, Options...>> {
  static_assert(std::is_same_v<T, const float> || std::is_same_v<T, const std::int32_t>);
  static ndarray<T, Options...> take(const SharedValue& value) {
    const auto wanted = std::is_same_v<T, const float> ? Value::Kind::floats : Value::Kind::indices;
    if (value->kind != wanted) refuse("an array of this type");
    if ((std::is_same_v<Options, ndim<1>> || ...) && value->shape.size() != 1) refuse("an array of one dimension");
    return ndarray<T, Options...>(value);
  }
};

}  // namespace nanobind
