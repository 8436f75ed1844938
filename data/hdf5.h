// SPDX-License-Identifier: Apache-2.0
// The HDF5 C API with owned handles. The library's own error printing is off; a failure is rethrown as Error with path,
// object and the library's words. libhdf5 (serial flavour) is one per process and not thread-safe: every function that
// calls it holds a Lock for as long as any handle of its own is alive.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <hdf5.h>

#include "kernels/error.h"

namespace farsight::h5 {

// Exclusive use of libhdf5 by this thread; not recursive.
class Lock {
 public:
  Lock();

 private:
  std::unique_lock<std::mutex> lock_;
};

// An identifier with the function that closes it. Closing errors in the destructor are dropped (an error is already on
// its way); close() reports them.
class Handle {
 public:
  using Closer = herr_t (*)(hid_t);
  Handle() = default;
  Handle(hid_t id, Closer closer) : id_(id), closer_(closer) {}
  ~Handle() { reset(); }
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), closer_(other.closer_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(closer_, other.closer_);
    return *this;
  }
  hid_t get() const { return id_; }
  bool valid() const { return id_ >= 0; }
  // False when closing failed.
  bool close() { return id_ < 0 || closer_(std::exchange(id_, -1)) >= 0; }

 private:
  void reset() {
    if (id_ >= 0) closer_(std::exchange(id_, -1));
  }
  hid_t id_ = -1;
  Closer closer_ = nullptr;
};

// The library's last error, outermost and innermost description. Empties the error stack.
std::string last_error();
// Throws Error{kind} "FILE: OBJECT: what: words of the library".
[[noreturn]] void fail_hdf5(ErrorKind kind, const std::string& file, const std::string& object, const char* what);

// Checks the result of a call; the kind is data when reading, io when writing.
struct Context {
  std::string file;
  ErrorKind kind = ErrorKind::data;
  hid_t id(hid_t result, const std::string& object, const char* what) const {
    if (result < 0) fail_hdf5(kind, file, object, what);
    return result;
  }
  void ok(herr_t result, const std::string& object, const char* what) const {
    if (result < 0) fail_hdf5(kind, file, object, what);
  }
};

Handle open_file(const Context& context);    // read only; explains locks and truncation
Handle create_file(const Context& context);  // must not exist; aligned for mapping; no times, so bytes are repeatable
Handle open_group(const Context& context, hid_t parent, const std::string& name);
Handle create_group(const Context& context, hid_t parent, const std::string& name);
Handle open_dataset(const Context& context, hid_t parent, const std::string& name);
bool has_link(const Context& context, hid_t parent, const std::string& name);
bool has_attribute(const Context& context, hid_t object, const std::string& name);

// Scalars of any integer width and both kinds of strings are read; nothing when the attribute is absent.
// Error{data} for another type, or more than 64 KiB.
std::optional<int64_t> read_int(const Context& context, hid_t object, const std::string& name);
std::optional<uint64_t> read_uint(const Context& context, hid_t object, const std::string& name);
std::optional<std::string> read_string(const Context& context, hid_t object, const std::string& name);
std::vector<std::string> read_strings(const Context& context, hid_t object, const std::string& name);

void write_int(const Context& context, hid_t object, const std::string& name, int64_t value);
void write_uint(const Context& context, hid_t object, const std::string& name, uint64_t value);
void write_string(const Context& context, hid_t object, const std::string& name, std::string_view value);
// An empty list is no attribute.
void write_strings(const Context& context, hid_t object, const std::string& name,
                   const std::vector<std::string>& values);

}  // namespace farsight::h5
