// The ops, each of which adds a method to Builder.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "builder.h"

namespace dwf {

namespace nb = nanobind;

using BuilderClass = nb::class_<Builder>;

void bind_dense_linear(BuilderClass& builder);
void bind_elementwise(BuilderClass& builder);
void bind_sparse_linear(BuilderClass& builder);

inline void bind_ops(BuilderClass& builder) {
  bind_dense_linear(builder);
  bind_elementwise(builder);
  bind_sparse_linear(builder);
}

}  // namespace dwf
