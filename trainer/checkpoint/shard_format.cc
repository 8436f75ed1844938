// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/shard_format.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/checkpoint/strict_json.h"

namespace farsight {
namespace {

using nlohmann::json;
constexpr std::string_view kPrefixMagic("FSSHARD\x01", 8);
constexpr std::string_view kFooterMagic("FSSHEND\x01", 8);

struct StoredType {
  std::string_view name;
  int64_t bytes;
};
constexpr std::array<StoredType, 15> kStoredTypes{{{"f64", 8},
                                                   {"f32", 4},
                                                   {"bf16", 2},
                                                   {"f16", 2},
                                                   {"f8e4m3", 1},
                                                   {"f8e5m2", 1},
                                                   {"i64", 8},
                                                   {"i32", 4},
                                                   {"i16", 2},
                                                   {"i8", 1},
                                                   {"u64", 8},
                                                   {"u32", 4},
                                                   {"u16", 2},
                                                   {"u8", 1},
                                                   {"bool", 1}}};

template <typename T>
void put(std::span<std::byte> out, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out[at + i] = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
}

template <typename T>
T get(std::span<const std::byte> in, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= std::to_integer<uint64_t>(in[at + i]) << (8 * i);
  return static_cast<T>(value);
}

bool has_magic(std::span<const std::byte> in, size_t at, std::string_view magic) {
  return std::memcmp(in.data() + at, magic.data(), magic.size()) == 0;
}

void put_magic(std::span<std::byte> out, size_t at, std::string_view magic) {
  std::memcpy(out.data() + at, magic.data(), magic.size());
}

// Product of the extents; false if it does not fit.
bool multiply(const Shape& shape, int64_t& product) {
  return std::none_of(shape.begin(), shape.end(),
                      [&](int64_t extent) { return __builtin_mul_overflow(product, extent, &product); });
}

bool legal_name(const std::string& name) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  return !name.empty() && name.size() <= kMaxTensorName && std::none_of(name.begin(), name.end(), control);
}

// Follows the blobs in order: what begin and chunk0 of the next tensor must be.
struct Cursor {
  int64_t begin = 0;
  int64_t chunk0 = 0;
  bool advance(int64_t bytes, int64_t chunk) {
    chunk0 += chunk_count(bytes, chunk);
    return bytes <= INT64_MAX - kShardBlobAlign - kMaxChunk - begin &&
           (begin = align_up(begin + bytes, kShardBlobAlign), true);
  }
};

std::string identity(const ShardTensor& tensor) { return tensor.name + '\x01' + to_string(tensor.offset); }

json to_json(const ShardTensor& tensor) {
  return {{"name", tensor.name},   {"dtype", tensor.dtype}, {"global", tensor.global}, {"offset", tensor.offset},
          {"shape", tensor.shape}, {"begin", tensor.begin}, {"bytes", tensor.bytes},   {"chunk0", tensor.chunk0}};
}

ShardTensor tensor_from_json(const json& object, const std::string& where) {
  json_exact_keys(object, {"name", "dtype", "global", "offset", "shape", "begin", "bytes", "chunk0"}, where);
  return {json_string(object, "name", where),   json_string(object, "dtype", where),
          json_shape(object, "global", where),  json_shape(object, "offset", where),
          json_shape(object, "shape", where),   json_integer(object, "begin", where),
          json_integer(object, "bytes", where), json_integer(object, "chunk0", where)};
}

void check_header_fields(const ShardHeader& header, const std::string& where) {
  if (header.format != kShardFormat) {
    fail(ErrorKind::data, "{}: shard format {}; this program reads format {}", where, header.format, kShardFormat);
  }
  if (header.writers < 1 || header.writer >= header.writers) {
    fail(ErrorKind::data, "{}: writer {} of {}", where, header.writer, header.writers);
  }
  if (header.chunk < kMinChunk || header.chunk > kMaxChunk || header.chunk % kShardDataAlign != 0) {
    fail(ErrorKind::data, "{}: chunk {} is not a multiple of {} in {}..{}", where, header.chunk, kShardDataAlign,
         kMinChunk, kMaxChunk);
  }
  if (static_cast<int64_t>(header.tensors.size()) > kMaxShardTensors) {
    fail(ErrorKind::data, "{}: more than {} tensors", where, kMaxShardTensors);
  }
}

void check_tensors(const ShardHeader& header, const std::string& where) {
  Cursor cursor;
  std::unordered_set<std::string> seen;
  for (const ShardTensor& tensor : header.tensors) {
    const int64_t bytes = check_box(tensor.name, tensor.dtype, tensor.global, tensor.offset, tensor.shape, where);
    if (tensor.bytes != bytes) {
      fail(ErrorKind::data, "{}: tensor '{}' has {} bytes, its shape {} needs {}", where, tensor.name, tensor.bytes,
           to_string(tensor.shape), bytes);
    }
    if (tensor.begin != cursor.begin || tensor.chunk0 != cursor.chunk0) {
      fail(ErrorKind::data, "{}: tensor '{}' begins at {} chunk {}, expected {} chunk {} (hole or overlap)", where,
           tensor.name, tensor.begin, tensor.chunk0, cursor.begin, cursor.chunk0);
    }
    if (!seen.insert(identity(tensor)).second) {
      fail(ErrorKind::data, "{}: tensor '{}' at offset {} appears twice", where, tensor.name, to_string(tensor.offset));
    }
    if (!cursor.advance(bytes, header.chunk)) fail(ErrorKind::data, "{}: data part too large", where);
  }
}

}  // namespace

int64_t stored_element_size(std::string_view dtype) {
  const auto found = std::find_if(kStoredTypes.begin(), kStoredTypes.end(),
                                  [&](const StoredType& type) { return type.name == dtype; });
  return found == kStoredTypes.end() ? 0 : found->bytes;
}

int64_t check_box(const std::string& name, const std::string& dtype, const Shape& global, const Shape& offset,
                  const Shape& shape, const std::string& where) {
  if (!legal_name(name)) {
    fail(ErrorKind::data, "{}: a tensor name must have 1 to {} bytes without control characters", where,
         kMaxTensorName);
  }
  if (stored_element_size(dtype) == 0) fail(ErrorKind::data, "{}: tensor '{}': unknown dtype '{}'", where, name, dtype);
  if (global.size() > kMaxTensorRank || offset.size() != global.size() || shape.size() != global.size()) {
    fail(ErrorKind::data, "{}: tensor '{}': ranks {}, {}, {} differ or exceed {}", where, name, global.size(),
         offset.size(), shape.size(), kMaxTensorRank);
  }
  for (size_t i = 0; i < global.size(); ++i) {
    int64_t end = 0;
    const bool overflow = __builtin_add_overflow(offset[i], shape[i], &end);
    if (offset[i] < 0 || shape[i] < 0 || overflow || end > global[i]) {
      fail(ErrorKind::data, "{}: tensor '{}': slice {} at {} lies outside {}", where, name, to_string(shape),
           to_string(offset), to_string(global));
    }
  }
  int64_t whole = stored_element_size(dtype);
  int64_t bytes = stored_element_size(dtype);
  if (!multiply(global, whole) || !multiply(shape, bytes)) {
    fail(ErrorKind::data, "{}: tensor '{}': shape {} overflows", where, name, to_string(global));
  }
  return bytes;
}

int64_t data_part_bytes(const ShardHeader& header) {
  if (header.tensors.empty()) return 0;
  return align_up(header.tensors.back().begin + header.tensors.back().bytes, kShardBlobAlign);
}

int64_t table_entries(const ShardHeader& header) {
  if (header.tensors.empty()) return 0;
  return header.tensors.back().chunk0 + chunk_count(header.tensors.back().bytes, header.chunk);
}

ShardHeader plan_shard(int64_t step, int64_t writer, int64_t writers, int64_t chunk,
                       std::span<const TensorSlice> slices) {
  ShardHeader header{kShardFormat, step, writer, writers, chunk, {}};
  header.tensors.reserve(slices.size());
  Cursor cursor;
  for (const TensorSlice& slice : slices) {
    const int64_t bytes = byte_count(slice);
    header.tensors.push_back({slice.name, to_string(slice.dtype), slice.global, slice.offset, slice.shape, cursor.begin,
                              bytes, cursor.chunk0});
    cursor.advance(bytes, chunk);
  }
  try {
    check_header_fields(header, "checkpoint");
    check_tensors(header, "checkpoint");
  } catch (const Error& error) {
    throw Error(ErrorKind::internal, error.what());
  }
  return header;
}

void pack_shard(const ShardHeader& header, std::span<const TensorSlice> slices, std::span<std::byte> image) {
  for (size_t i = 0; i < slices.size(); ++i) {
    const ShardTensor& tensor = header.tensors[i];
    if (tensor.bytes == 0) continue;
    const auto padding =
        static_cast<size_t>(align_up(tensor.begin + tensor.bytes, kShardBlobAlign) - tensor.begin - tensor.bytes);
    std::byte* out = image.data() + tensor.begin;
    copy_to_host(slices[i].data, slices[i].device, out, tensor.bytes);
    std::memset(out + tensor.bytes, 0, padding);
  }
}

std::string encode_shard_header(const ShardHeader& header) {
  std::string text = fmt::format(R"({{"format":{},"step":{},"writer":{},"writers":{},"chunk":{},"tensors":[)",
                                 header.format, header.step, header.writer, header.writers, header.chunk);
  for (const ShardTensor& tensor : header.tensors) {
    if (&tensor != header.tensors.data()) text += ',';
    text += to_json(tensor).dump();
  }
  return text + "]}";
}

ShardHeader decode_shard_header(std::string_view text, const std::string& where) {
  ShardHeader header;
  StrictJsonOptions options;
  options.max_depth = 4;
  options.max_values = 256;
  options.take = [&](const std::vector<std::string>& keys, int depth, const json& value) {
    if (depth != 2 || !value.is_object() || keys[1] != "tensors") return false;
    if (static_cast<int64_t>(header.tensors.size()) == kMaxShardTensors) {
      fail(ErrorKind::data, "{}: more than {} tensors", where, kMaxShardTensors);
    }
    header.tensors.push_back(tensor_from_json(value, where));
    return true;
  };
  const json object = parse_strict_json(text, where, options);
  json_exact_keys(object, {"format", "step", "writer", "writers", "chunk", "tensors"}, where);
  const json& rest = json_member(object, "tensors", where);
  if (!rest.is_array() || !rest.empty()) fail(ErrorKind::data, "{}: 'tensors' is not a list of objects", where);
  header.format = json_integer(object, "format", where);
  header.step = json_integer(object, "step", where);
  header.writer = json_integer(object, "writer", where);
  header.writers = json_integer(object, "writers", where);
  header.chunk = json_integer(object, "chunk", where);
  check_header_fields(header, where);
  check_tensors(header, where);
  return header;
}

std::array<std::byte, kShardPrefixBytes> encode_shard_prefix(int64_t header_bytes) {
  std::array<std::byte, kShardPrefixBytes> prefix{};
  put_magic(prefix, 0, kPrefixMagic);
  put(prefix, 8, header_bytes);
  return prefix;
}

int64_t decode_shard_prefix(std::span<const std::byte> prefix, int64_t file_bytes, const std::string& where) {
  if (!has_magic(prefix, 0, kPrefixMagic.substr(0, 7))) fail(ErrorKind::data, "{}: not a shard file", where);
  if (!has_magic(prefix, 0, kPrefixMagic)) {
    fail(ErrorKind::data, "{}: shard format {}; this program reads format {}", where, std::to_integer<int>(prefix[7]),
         kShardFormat);
  }
  const auto header_bytes = get<uint64_t>(prefix, 8);
  const int64_t room = file_bytes - kShardPrefixBytes - kShardFooterBytes;
  if (header_bytes > static_cast<uint64_t>(kMaxShardHeader) || static_cast<int64_t>(header_bytes) > room) {
    fail(ErrorKind::data, "{}: header of {} bytes in a file of {}", where, header_bytes, file_bytes);
  }
  return static_cast<int64_t>(header_bytes);
}

std::array<std::byte, kShardFooterBytes> encode_shard_footer(const ShardFooter& footer) {
  std::array<std::byte, kShardFooterBytes> out{};
  put(out, 0, footer.file_bytes);
  put(out, 8, footer.table_offset);
  put(out, 16, static_cast<uint32_t>(footer.table_count));
  put(out, 20, footer.crc_header);
  put(out, 24, footer.crc_table);
  put(out, 28, crc32c(std::span<const std::byte>(out).first(28)));
  put_magic(out, 32, kFooterMagic);
  return out;
}

ShardFooter decode_shard_footer(std::span<const std::byte> footer, int64_t file_bytes, const std::string& where) {
  if (!has_magic(footer, 32, kFooterMagic)) fail(ErrorKind::data, "{}: no end mark: the file is cut or damaged", where);
  const uint32_t crc = crc32c(footer.first(28));
  if (crc != get<uint32_t>(footer, 28)) {
    fail(ErrorKind::data, "{}: footer CRC32C {:08x}, expected {:08x}", where, crc, get<uint32_t>(footer, 28));
  }
  const ShardFooter result{get<int64_t>(footer, 0), get<int64_t>(footer, 8), get<uint32_t>(footer, 16),
                           get<uint32_t>(footer, 20), get<uint32_t>(footer, 24)};
  const int64_t table_bytes = 4 * result.table_count;
  if (result.file_bytes != file_bytes || result.table_offset < kShardPrefixBytes ||
      result.table_offset != file_bytes - kShardFooterBytes - table_bytes) {
    fail(ErrorKind::data, "{}: {} bytes, its footer says {} with {} chunks from {}", where, file_bytes,
         result.file_bytes, result.table_count, result.table_offset);
  }
  return result;
}

}  // namespace farsight
