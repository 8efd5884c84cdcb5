// The ops, each of which adds a method to Builder.

#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "builder.h"

namespace dwf {

namespace nb = nanobind;

using BuilderClass = nb::class_<Builder>;

void bind_add(BuilderClass& builder);
void bind_affine(BuilderClass& builder);
void bind_concat(BuilderClass& builder);
void bind_conv(BuilderClass& builder);
void bind_dense_linear(BuilderClass& builder);
void bind_elementwise(BuilderClass& builder);
void bind_pool(BuilderClass& builder);
void bind_softmax(BuilderClass& builder);
void bind_sparse_linear(BuilderClass& builder);

inline void bind_ops(BuilderClass& builder) {
  bind_add(builder);
  bind_affine(builder);
  bind_concat(builder);
  bind_conv(builder);
  bind_dense_linear(builder);
  bind_elementwise(builder);
  bind_pool(builder);
  bind_softmax(builder);
  bind_sparse_linear(builder);
}

}  // namespace dwf
