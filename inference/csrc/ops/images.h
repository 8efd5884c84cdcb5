// Going through images of one size, each with its own border.

#pragma once

#include <cstddef>

#include "layout.h"

namespace dwf {

inline bool same_size(const Layout& a, const Layout& b) {
  return a.channels == b.channels && a.height == b.height && a.width == b.width;
}

// Calls run(feature, size) for runs of features that lie side by side in all images, within one channel if `by_channel`.
template <class Run, class... Layouts>
void for_runs(bool by_channel, Run run, const Layout& first, const Layouts&... others) {
  const bool dense = first.dense() && (others.dense() && ...);
  const std::size_t size = !dense ? first.width : by_channel ? first.height * first.width : first.features();
  for (std::size_t feature = 0; feature < first.features(); feature += size) run(feature, size);
}

}  // namespace dwf
