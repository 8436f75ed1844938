// SPDX-License-Identifier: Apache-2.0
// The shard file: prefix, JSON header, 64-aligned blobs, CRC32C per chunk, footer (checkpoint_format.md). Everything
// but names and shapes is determined by the rules, so a reader computes it and compares: holes, overlaps, trailing
// bytes and wrong offsets cannot be expressed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "trainer/checkpoint/tensor_slice.h"

namespace farsight {

constexpr int64_t kShardFormat = 1;
constexpr int64_t kShardPrefixBytes = 16;
constexpr int64_t kShardFooterBytes = 40;
constexpr int64_t kShardDataAlign = 4096;  // start of the data part
constexpr int64_t kShardBlobAlign = 64;
constexpr int64_t kMaxShardHeader = 64LL << 20;
constexpr int64_t kMaxShardTensors = 1'000'000;
constexpr size_t kMaxTensorName = 512;
constexpr size_t kMaxTensorRank = 8;
constexpr int64_t kMinChunk = 64 << 10;
constexpr int64_t kMaxChunk = 16 << 20;

struct ShardTensor {
  std::string name, dtype;
  Shape global, offset, shape;
  int64_t begin = 0;  // in the data part
  int64_t bytes = 0;
  int64_t chunk0 = 0;  // first entry in the chunk table
};

struct ShardHeader {
  int64_t format = kShardFormat;
  int64_t step = 0;
  int64_t writer = 0;
  int64_t writers = 1;
  int64_t chunk = 4 << 20;
  std::vector<ShardTensor> tensors;
};

struct ShardFooter {
  int64_t file_bytes = 0;
  int64_t table_offset = 0;
  int64_t table_count = 0;
  uint32_t crc_header = 0;  // prefix and header
  uint32_t crc_table = 0;
};

inline int64_t align_up(int64_t value, int64_t alignment) { return (value + alignment - 1) / alignment * alignment; }
inline int64_t chunk_count(int64_t bytes, int64_t chunk) { return (bytes + chunk - 1) / chunk; }
// Bytes of an element, 0 for a name the format does not know.
int64_t stored_element_size(std::string_view dtype);
// Error{data} "WHERE: ..." unless name, dtype, rank, extents and bounds are legal; returns the bytes of the slice.
int64_t check_box(const std::string& name, const std::string& dtype, const Shape& global, const Shape& offset,
                  const Shape& shape, const std::string& where);

// Where the data part ends (a multiple of 64) and how many chunks there are.
int64_t data_part_bytes(const ShardHeader& header);
int64_t table_entries(const ShardHeader& header);

// Lays out the slices in their order. Error{internal} for an illegal slice, which is a bug of the caller.
ShardHeader plan_shard(int64_t step, int64_t writer, int64_t writers, int64_t chunk,
                       std::span<const TensorSlice> slices);
// The data part as it is on disk, padding zeroed. image: data_part_bytes(header) bytes.
void pack_shard(const ShardHeader& header, std::span<const TensorSlice> slices, std::span<std::byte> image);

std::string encode_shard_header(const ShardHeader& header);  // JSON only
// Error{data} for anything illegal.
ShardHeader decode_shard_header(std::string_view text, const std::string& where);

std::array<std::byte, kShardPrefixBytes> encode_shard_prefix(int64_t header_bytes);
int64_t decode_shard_prefix(std::span<const std::byte> prefix, int64_t file_bytes, const std::string& where);
std::array<std::byte, kShardFooterBytes> encode_shard_footer(const ShardFooter& footer);
ShardFooter decode_shard_footer(std::span<const std::byte> footer, int64_t file_bytes, const std::string& where);

}  // namespace farsight
