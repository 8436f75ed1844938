// SPDX-License-Identifier: Apache-2.0
#include "data/hdf5.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace farsight::h5 {

namespace {

constexpr size_t kMaxAttributeBytes = 64 * 1024;
constexpr hsize_t kPageBytes = 4096;

// libhdf5 keeps process-wide state without locks, so the lock is one per process too.
std::mutex& library_mutex() {
  static std::mutex mutex;
  // Every handle is closed by its owner. After a failed write the library cannot close its file, tries again at exit
  // and crashes: an exit code of 139 would hide the real one.
  [[maybe_unused]] static const herr_t no_cleanup_at_exit = H5dont_atexit();
  return mutex;
}

// "file write failed: time = ..., errno = 27, error message = 'File too large', buf = ..." without pointers and dates.
std::string tidy(const std::string& text) {
  constexpr std::string_view kNumber = ", errno = ", kMessage = "error message = '";
  const size_t number = text.find(kNumber), message = text.find(kMessage);
  if (number == std::string::npos || message == std::string::npos) return text;
  const size_t digits = number + kNumber.size(), words = message + kMessage.size();
  return fmt::format("{}: {} (errno {})", text.substr(0, std::min(text.find(": time"), number)),
                     text.substr(words, text.find('\'', words) - words),
                     text.substr(digits, text.find(',', digits) - digits));
}

struct Words {
  std::string outer, inner;
};

herr_t collect(unsigned /*depth*/, const H5E_error2_t* entry, void* data) {
  auto& words = *static_cast<Words*>(data);
  const std::string text = tidy(entry->desc != nullptr ? entry->desc : "");
  if (words.outer.empty()) words.outer = text;
  words.inner = text;
  return 0;
}

bool is_numbered(const std::string& words, int code) {
  return words.find(fmt::format("(errno {})", code)) != std::string::npos;
}

// What a user can do about the library's words.
std::string advice(const std::string& words) {
  if (is_numbered(words, 11)) return "; another process has it open for writing";
  if (is_numbered(words, 37) || is_numbered(words, 524) || is_numbered(words, 38)) {
    return "; the file system has no locks: set HDF5_USE_FILE_LOCKING=FALSE (for readers only)";
  }
  if (is_numbered(words, 28)) return "; free some space or choose another folder";
  if (words.find("truncated") != std::string::npos) return "; the copy is incomplete or its writer was killed";
  return "";
}

Handle scalar_space() { return {H5Screate(H5S_SCALAR), H5Sclose}; }

Handle string_type() {
  Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), H5T_VARIABLE);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return type;
}

Handle open_attribute(const Context& context, hid_t object, const std::string& name) {
  Handle attribute(context.id(H5Aopen(object, name.c_str(), H5P_DEFAULT), name, "cannot open attribute"), H5Aclose);
  if (H5Aget_storage_size(attribute.get()) > kMaxAttributeBytes) {
    fail(context.kind, "{}: attribute '{}' is larger than 64 KiB", context.file, name);
  }
  return attribute;
}

size_t element_count(hid_t attribute) {
  const Handle space(H5Aget_space(attribute), H5Sclose);
  return static_cast<size_t>(std::max<hssize_t>(0, H5Sget_simple_extent_npoints(space.get())));
}

template <typename T>
std::optional<T> read_number(const Context& context, hid_t object, const std::string& name, hid_t native) {
  if (!has_attribute(context, object, name)) return std::nullopt;
  const Handle attribute = open_attribute(context, object, name);
  const Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_INTEGER || element_count(attribute.get()) != 1) {
    fail(context.kind, "{}: attribute '{}' is not one integer", context.file, name);
  }
  T value = 0;
  context.ok(H5Aread(attribute.get(), native, &value), name, "cannot read attribute");
  return value;
}

template <typename T>
void write_number(const Context& context, hid_t object, const std::string& name, hid_t file_type, hid_t native,
                  T value) {
  const Handle space = scalar_space();
  const Handle attribute(context.id(H5Acreate2(object, name.c_str(), file_type, space.get(), H5P_DEFAULT, H5P_DEFAULT),
                                    name, "cannot create attribute"),
                         H5Aclose);
  context.ok(H5Awrite(attribute.get(), native, &value), name, "cannot write attribute");
}

std::vector<std::string> read_variable(const Context& context, hid_t attribute, hid_t type, const std::string& name,
                                       size_t count) {
  std::vector<char*> pointers(count, nullptr);
  context.ok(H5Aread(attribute, type, pointers.data()), name, "cannot read attribute");
  std::vector<std::string> values;
  for (const char* pointer : pointers) values.emplace_back(pointer != nullptr ? pointer : "");
  const Handle space(H5Aget_space(attribute), H5Sclose);
  H5Dvlen_reclaim(type, space.get(), H5P_DEFAULT, pointers.data());
  return values;
}

std::vector<std::string> read_fixed(const Context& context, hid_t attribute, hid_t type, const std::string& name,
                                    size_t count) {
  const size_t width = H5Tget_size(type);
  std::string raw(std::min(width * count, kMaxAttributeBytes), '\0');
  if (raw.size() != width * count) fail(context.kind, "{}: attribute '{}' is too large", context.file, name);
  context.ok(H5Aread(attribute, type, raw.data()), name, "cannot read attribute");
  std::vector<std::string> values;
  for (size_t i = 0; i < count; ++i) {
    std::string value = raw.substr(i * width, width);
    value.resize(std::min(value.size(), value.find('\0') == std::string::npos ? value.size() : value.find('\0')));
    values.push_back(std::move(value));
  }
  return values;
}

}  // namespace

Lock::Lock() : lock_(library_mutex()) { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

std::string last_error() {
  Words words;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, collect, &words);
  H5Eclear2(H5E_DEFAULT);
  if (words.outer == words.inner) return words.outer;
  return words.outer + ": " + words.inner;
}

void fail_hdf5(ErrorKind kind, const std::string& file, const std::string& object, const char* what) {
  const std::string words = last_error();
  const std::string where = object.empty() ? file : fmt::format("{}: '{}'", file, object);
  fail(kind, "{}: {}: HDF5: {}{}", where, what, words.empty() ? "no reason given" : words, advice(words));
}

Handle open_file(const Context& context) {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  return {context.id(H5Fopen(context.file.c_str(), H5F_ACC_RDONLY, access.get()), "", "cannot open"), H5Fclose};
}

Handle create_file(const Context& context) {
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_alignment(access.get(), kPageBytes, kPageBytes);
  H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_V110);
  const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  return {context.id(H5Fcreate(context.file.c_str(), H5F_ACC_EXCL, creation.get(), access.get()), "", "cannot create"),
          H5Fclose};
}

Handle open_group(const Context& context, hid_t parent, const std::string& name) {
  return {context.id(H5Gopen2(parent, name.c_str(), H5P_DEFAULT), name, "cannot open group"), H5Gclose};
}

Handle create_group(const Context& context, hid_t parent, const std::string& name) {
  const Handle creation(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  H5Pset_obj_track_times(creation.get(), false);
  return {context.id(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, creation.get(), H5P_DEFAULT), name,
                     "cannot create group"),
          H5Gclose};
}

Handle open_dataset(const Context& context, hid_t parent, const std::string& name) {
  return {context.id(H5Dopen2(parent, name.c_str(), H5P_DEFAULT), name, "cannot open dataset"), H5Dclose};
}

bool has_link(const Context& context, hid_t parent, const std::string& name) {
  const htri_t found = H5Lexists(parent, name.c_str(), H5P_DEFAULT);
  context.ok(found, name, "cannot look up");
  return found > 0;
}

bool has_attribute(const Context& context, hid_t object, const std::string& name) {
  const htri_t found = H5Aexists(object, name.c_str());
  context.ok(found, name, "cannot look up attribute");
  return found > 0;
}

std::optional<int64_t> read_int(const Context& context, hid_t object, const std::string& name) {
  return read_number<int64_t>(context, object, name, H5T_NATIVE_INT64);
}

std::optional<uint64_t> read_uint(const Context& context, hid_t object, const std::string& name) {
  return read_number<uint64_t>(context, object, name, H5T_NATIVE_UINT64);
}

std::vector<std::string> read_strings(const Context& context, hid_t object, const std::string& name) {
  if (!has_attribute(context, object, name)) return {};
  const Handle attribute = open_attribute(context, object, name);
  const Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (H5Tget_class(type.get()) != H5T_STRING) {
    fail(context.kind, "{}: attribute '{}' is not a string", context.file, name);
  }
  const size_t count = element_count(attribute.get());
  if (count > kMaxAttributeBytes) fail(context.kind, "{}: attribute '{}' is too large", context.file, name);
  return H5Tis_variable_str(type.get()) > 0 ? read_variable(context, attribute.get(), type.get(), name, count)
                                            : read_fixed(context, attribute.get(), type.get(), name, count);
}

std::optional<std::string> read_string(const Context& context, hid_t object, const std::string& name) {
  if (!has_attribute(context, object, name)) return std::nullopt;
  std::vector<std::string> values = read_strings(context, object, name);
  if (values.size() != 1) fail(context.kind, "{}: attribute '{}' is not one string", context.file, name);
  return std::move(values.front());
}

void write_int(const Context& context, hid_t object, const std::string& name, int64_t value) {
  write_number(context, object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, value);
}

void write_uint(const Context& context, hid_t object, const std::string& name, uint64_t value) {
  write_number(context, object, name, H5T_STD_U64LE, H5T_NATIVE_UINT64, value);
}

void write_string(const Context& context, hid_t object, const std::string& name, std::string_view value) {
  const Handle space = scalar_space();
  const Handle type = string_type();
  const Handle attribute(context.id(H5Acreate2(object, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                                    name, "cannot create attribute"),
                         H5Aclose);
  const std::string text(value);
  const char* pointer = text.c_str();
  context.ok(H5Awrite(attribute.get(), type.get(), &pointer), name, "cannot write attribute");
}

void write_strings(const Context& context, hid_t object, const std::string& name,
                   const std::vector<std::string>& values) {
  if (values.empty()) return;  // the library refuses an empty buffer; read_strings gives an empty list for no attribute
  const hsize_t count = values.size();
  const Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const Handle type = string_type();
  const Handle attribute(context.id(H5Acreate2(object, name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
                                    name, "cannot create attribute"),
                         H5Aclose);
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(value.c_str());
  context.ok(H5Awrite(attribute.get(), type.get(), pointers.data()), name, "cannot write attribute");
}

}  // namespace farsight::h5
