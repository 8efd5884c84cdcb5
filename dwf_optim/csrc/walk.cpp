#include "walk.h"

#include "nearby.h"

namespace dwf {
namespace {

// Dicts in which an order is looked for. If by then there is none, there is none.
constexpr int kMostLessons = 4;

}  // namespace

Cursor::Cursor(nb::dict dict, PyObject* first) : dict_(dict) {
  Py_ssize_t after = 0;
  PyObject* found = nullptr;
  while (PyDict_Next(dict_.ptr(), &after, &found, nullptr)) {
    if (found == first) return;
    position_ = after;
  }
  position_ = 0;
}

PyObject* Cursor::take(PyObject* key) {
  // A position that has become invalid is one past the end.
  Py_ssize_t after = position_;
  PyObject *found = nullptr, *value = nullptr;
  if (!PyDict_Next(dict_.ptr(), &after, &found, &value) || found != key) return nullptr;
  position_ = after;
  return value;
}

void Cursor::fetch_next(std::size_t count) const {
  Py_ssize_t after = position_;
  PyObject* value = nullptr;
  for (std::size_t i = 0; i < count && PyDict_Next(dict_.ptr(), &after, nullptr, &value); ++i) fetch(value);
}

bool KeyReader::read(PyObject* dict, PyObject** values) {
  if (static_cast<std::size_t>(PyDict_GET_SIZE(dict)) != keys_.size()) return false;
  Py_ssize_t position = 0;
  PyObject *key = nullptr, *value = nullptr;
  std::size_t found = 0;
  for (const Place& place : order_) {
    if (!PyDict_Next(dict, &position, &key, &value) || key != place.key.ptr()) break;
    values[place.index] = value;
    ++found;
  }
  return found == keys_.size() || look_up(dict, values);
}

bool KeyReader::look_up(PyObject* dict, PyObject** values) {
  for (std::size_t i = 0; i < keys_.size(); ++i) {
    values[i] = PyDict_GetItemWithError(dict, keys_[i].ptr());
    if (values[i] == nullptr) return false;
  }
  if (lessons_++ < kMostLessons) learn(dict);
  return true;
}

void KeyReader::learn(PyObject* dict) {
  order_.clear();
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  while (PyDict_Next(dict, &position, &key, nullptr))
    for (std::size_t i = 0; i < keys_.size(); ++i)
      if (key == keys_[i].ptr() || PyUnicode_Compare(key, keys_[i].ptr()) == 0) order_.push_back({nb::borrow(key), i});
}

}  // namespace dwf
