// SPDX-License-Identifier: Apache-2.0
#include "data/sidecar.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <memory>
#include <string_view>

#include <isa-l.h>
#include <xxhash.h>

#include "data/file.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr std::string_view kFormat = "farsight-sum 1";
constexpr int64_t kMaxSidecarBytes = 64 << 20;
constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kListed = 5;

// The lines of a sidecar, one "KEY VALUE" at a time.
class Lines {
 public:
  Lines(std::string_view text, const std::string& name) : rest_(text), name_(name) {}
  bool at_end() const { return rest_.empty(); }

  std::string_view line() {
    ++number_;
    const size_t end = rest_.find('\n');
    if (end == std::string_view::npos) refuse("line without an end");
    const std::string_view found = rest_.substr(0, end);
    rest_.remove_prefix(end + 1);
    return found;
  }

  std::string_view value(std::string_view key) {
    const std::string_view found = line();
    if (found.size() <= key.size() + 1 || found.substr(0, key.size()) != key || found[key.size()] != ' ') {
      refuse(fmt::format("expected '{} ...'", key));
    }
    return found.substr(key.size() + 1);
  }

  template <typename T>
  T number(std::string_view key, int base) {
    const std::string_view text = value(key);
    T result = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result, base);
    if (error != std::errc() || end != text.data() + text.size()) refuse(fmt::format("'{}' is not a number", text));
    return result;
  }

  [[noreturn]] void refuse(const std::string& why) const {
    fail(ErrorKind::data, "{}:{}: {}; not a checksum file of this program, or a damaged one", name_, number_, why);
  }

 private:
  std::string_view rest_;
  std::string name_;
  int number_ = 0;
};

struct StateDeleter {
  void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
};

uint32_t crc_continue(uint32_t crc, std::string& buffer, size_t bytes) {
  return crc32_iscsi(reinterpret_cast<unsigned char*>(buffer.data()), static_cast<int>(bytes), crc);
}

std::string describe_blocks(const Sidecar& expected, const Sidecar& found, const std::string& name) {
  std::string text;
  size_t bad = 0;
  for (size_t i = 0; i < expected.crc32c.size(); ++i) {
    if (expected.crc32c[i] == found.crc32c[i]) continue;
    if (++bad > kListed) continue;
    const auto begin = static_cast<int64_t>(i) * kSidecarBlock;
    text += fmt::format("{}block {} (bytes {}..{}) differs from {}", text.empty() ? "" : "; ", i, with_commas(begin),
                        with_commas(std::min(begin + kSidecarBlock, expected.bytes) - 1), name);
  }
  if (bad > kListed) text += fmt::format("; {} blocks differ in all", bad);
  if (text.empty()) text = "content differs from " + name;
  return text;
}

}  // namespace

std::string sidecar_path(const std::string& path) { return path + ".sum"; }

Sidecar compute_sidecar(const std::string& path, const std::string& uuid) {
  File file = File::open_read(path);
  Sidecar sidecar{.uuid = uuid, .bytes = 0, .xxh3 = 0, .crc32c = {}};
  const std::unique_ptr<XXH3_state_t, StateDeleter> state(XXH3_createState());
  XXH3_64bits_reset(state.get());
  std::string buffer(kReadBytes, '\0');
  uint32_t crc = ~0U;
  while (const size_t got = file.read_some(buffer.data(), buffer.size())) {
    XXH3_64bits_update(state.get(), buffer.data(), got);
    // A short read may straddle a block border.
    const auto room = static_cast<size_t>(kSidecarBlock - sidecar.bytes % kSidecarBlock);
    const size_t head = std::min(got, room);
    crc = crc_continue(crc, buffer, head);
    if (head == room) {
      sidecar.crc32c.push_back(~crc);
      crc = ~0U;
      buffer.erase(0, head);
      crc = crc_continue(crc, buffer, got - head);
      buffer.resize(kReadBytes);
    }
    sidecar.bytes += static_cast<int64_t>(got);
  }
  if (sidecar.bytes % kSidecarBlock != 0) sidecar.crc32c.push_back(~crc);
  sidecar.xxh3 = XXH3_64bits_digest(state.get());
  return sidecar;
}

std::string to_text(const Sidecar& sidecar) {
  std::string text = fmt::format("{}\nuuid {}\nbytes {}\nxxh3 {:016x}\nblock {}\n", kFormat, sidecar.uuid,
                                 sidecar.bytes, sidecar.xxh3, kSidecarBlock);
  for (const uint32_t crc : sidecar.crc32c) text += fmt::format("crc32c {:08x}\n", crc);
  return text;
}

Sidecar parse_sidecar(const std::string& text, const std::string& name) {
  Lines lines(text, name);
  if (lines.line() != kFormat) lines.refuse(fmt::format("expected '{}'", kFormat));
  Sidecar sidecar;
  sidecar.uuid = std::string(lines.value("uuid"));
  sidecar.bytes = lines.number<int64_t>("bytes", 10);
  sidecar.xxh3 = lines.number<uint64_t>("xxh3", 16);
  if (lines.number<int64_t>("block", 10) != kSidecarBlock) lines.refuse("block size is not 64 MiB");
  while (!lines.at_end()) sidecar.crc32c.push_back(lines.number<uint32_t>("crc32c", 16));
  if (sidecar.bytes < 0 || sidecar.bytes > std::numeric_limits<int64_t>::max() - kSidecarBlock ||
      static_cast<int64_t>(sidecar.crc32c.size()) != (sidecar.bytes + kSidecarBlock - 1) / kSidecarBlock) {
    lines.refuse(fmt::format("{} checksums for {} bytes", sidecar.crc32c.size(), sidecar.bytes));
  }
  return sidecar;
}

Sidecar load_sidecar(const std::string& path) {
  const std::string name = sidecar_path(path);
  return parse_sidecar(read_whole(name, kMaxSidecarBytes), name);
}

void verify_sidecar(const std::string& path, const std::string& uuid) {
  const std::string name = sidecar_path(path);
  if (!path_exists(name)) fail(ErrorKind::data, "{}: no checksum file {} beside it", path, name);
  const Sidecar expected = load_sidecar(path);
  if (expected.uuid != uuid) {
    fail(ErrorKind::data, "{}: stale checksum file: {} is of uuid {}, the data are {}", path, name, expected.uuid,
         uuid);
  }
  const Sidecar found = compute_sidecar(path, uuid);
  if (found.bytes != expected.bytes) {
    fail(ErrorKind::data, "{}: {} bytes expected by {}, {} found", path, with_commas(expected.bytes), name,
         with_commas(found.bytes));
  }
  if (found.xxh3 != expected.xxh3 || found.crc32c != expected.crc32c) {
    fail(ErrorKind::data, "{}: {}", path, describe_blocks(expected, found, file_name_of(name)));
  }
}

}  // namespace farsight
