// Finding what is asked for in Python's dicts by going through them, in the order in which they hold it.
//
// The states of a group are asked for in the order in which they were made, nearly always. To compare addresses then takes a
// nanosecond; a look-up of a tensor calls its __hash__, a Python function. What is not next is looked up.

#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <vector>

#include "slot.h"

namespace dwf {

namespace nb = nanobind;

// Most tensors in a weight's state: by part, what is kept, the moments and the count.
constexpr std::size_t kMostValues = kMaxDepth * (2 + kMaxMoments);

// Goes through a dict of parameters. It may be changed meanwhile.
class Cursor {
 public:
  // first: where to begin.
  Cursor(nb::dict dict, PyObject* first);

  // The value of a key, if that is the next; null otherwise. Does not run Python code.
  PyObject* take(PyObject* key);

  // Brings the dicts that come next near: see nearby.h.
  void fetch_next(std::size_t count) const;

 private:
  nb::dict dict_;
  Py_ssize_t position_ = 0;
};

// Reads dicts that have the same keys, in one order as far as possible.
class KeyReader {
 public:
  explicit KeyReader(const std::vector<nb::object>& keys) : keys_(keys) {}

  // Finds the values of all keys, or returns false if one is missing or there are others. The values are borrowed. Does
  // not run Python code.
  bool read(PyObject* dict, PyObject** values);

 private:
  bool look_up(PyObject* dict, PyObject** values);
  void learn(PyObject* dict);

  struct Place {
    nb::object key;
    std::size_t index;  // among keys_
  };

  const std::vector<nb::object>& keys_;
  std::vector<Place> order_;  // of the last dict that was looked at closely
  int lessons_ = 0;
};

}  // namespace dwf
