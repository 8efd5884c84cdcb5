// The factorized weights of one parameter group, found in Python's objects and ready to be stepped.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <optional>
#include <vector>

#include "groups.h"
#include "plain.h"
#include "slot.h"
#include "tensors.h"

namespace dwf {

// Under which keys a weight's state holds its tensors. The format itself is dwf_optim/state.py's.
struct Keys {
  std::vector<nb::object> kept;                  // the factors, or the root, or nothing
  std::vector<std::vector<nb::object>> moments;  // by moment and part that the base steps
  std::vector<nb::object> counts;                // by part; empty where the base counts no steps
  std::optional<Split> split;                    // of weights with gates: what is kept is the full factor, then gates
};

struct Table {
  std::vector<Slot> slots;
  std::vector<std::size_t> members;  // the place of each slot's weight among the parameters
  std::vector<std::size_t> rest;     // parameters with a gradient that are not among the slots
  nb::list weights;                  // of the slots
  std::vector<Plain> plain;          // parameters of too few dimensions for factors
  nb::list plain_weights;
  std::vector<nb::object> held;      // gradients, so that none is freed meanwhile
};

// Finds the parameters that have a gradient, and of these all that the kernel can step: with a complete state, on the CPU, of
// known dtypes, and with all tensors dense and in the same order. plain: the keys of the state of those with fewer dimensions
// than `min_ndim`; null if they are not to be stepped here.
Table collect(const Reader& reader, nb::list parameters, nb::dict states, const Keys& keys, int min_ndim,
              const std::vector<nb::object>* plain);

}  // namespace dwf
