// SPDX-License-Identifier: Apache-2.0
#include "trainer/checkpoint/shard_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include <fmt/format.h>

#include "kernels/error.h"
#include "trainer/checkpoint/crc32c.h"

namespace farsight {
namespace {

// The table is written and read as it lies in memory.
static_assert(std::endian::native == std::endian::little);
constexpr size_t kWriteBytes = size_t{8} << 20;

std::vector<uint32_t> chunk_checksums(const ShardHeader& header, std::span<const std::byte> image) {
  std::vector<uint32_t> table;
  table.reserve(static_cast<size_t>(table_entries(header)));
  for (const ShardTensor& tensor : header.tensors) {
    for (int64_t at = 0; at < tensor.bytes; at += header.chunk) {
      const int64_t bytes = std::min(header.chunk, tensor.bytes - at);
      table.push_back(crc32c(image.subspan(static_cast<size_t>(tensor.begin + at), static_cast<size_t>(bytes))));
    }
  }
  return table;
}

void check_space(FileSystem& files, const std::string& directory, int64_t bytes) {
  const int64_t space = check_io(files.free_bytes(directory), "cannot ask for free space in", directory);
  if (space < bytes) {
    fail(ErrorKind::io, "no space for a shard of {} bytes in {}: {} are free; free some or set checkpoint.keep lower",
         bytes, directory, space);
  }
}

void write_in_pieces(OutputFile& file, std::span<const std::byte> data) {
  for (size_t at = 0; at < data.size(); at += kWriteBytes) {
    file.write(data.subspan(at, std::min(kWriteBytes, data.size() - at)));
  }
}

}  // namespace

std::string shard_name(int64_t writer, int64_t writers) {
  return fmt::format("shard-{:05}-of-{:05}.fss", writer, writers);
}

ShardFile write_shard(FileSystem& files, const std::string& directory, const ShardHeader& header,
                      std::span<const std::byte> image) {
  const std::string text = encode_shard_header(header);
  const auto header_bytes = static_cast<int64_t>(text.size());
  if (header_bytes > kMaxShardHeader) fail(ErrorKind::internal, "checkpoint: header of {} bytes", header_bytes);
  const auto prefix = encode_shard_prefix(header_bytes);
  const int64_t data_offset = align_up(kShardPrefixBytes + header_bytes, kShardDataAlign);
  const std::string gap(static_cast<size_t>(data_offset - kShardPrefixBytes - header_bytes), '\0');
  const std::vector<uint32_t> table = chunk_checksums(header, image);
  const auto table_bytes = std::as_bytes(std::span(table));

  ShardFooter footer;
  footer.table_offset = data_offset + static_cast<int64_t>(image.size());
  footer.table_count = static_cast<int64_t>(table.size());
  footer.file_bytes = footer.table_offset + static_cast<int64_t>(table_bytes.size()) + kShardFooterBytes;
  footer.crc_header = crc32c(text, crc32c(prefix));
  footer.crc_table = crc32c(table_bytes);
  check_space(files, directory, footer.file_bytes);

  const std::string name = shard_name(header.writer, header.writers);
  OutputFile file(files, directory + "/" + name);
  file.write(prefix);
  file.write(text + gap);
  write_in_pieces(file, image);
  file.write(table_bytes);
  file.write(encode_shard_footer(footer));
  file.sync();
  file.close();
  return {name, footer.file_bytes, footer.crc_header, footer.crc_table};
}

ShardReader::ShardReader(FileSystem& files, const std::string& path, int64_t number)
    : file_(files, path), where_(fmt::format("shard {}", number)) {
  if (file_.bytes() < kShardPrefixBytes + kShardFooterBytes) {
    fail(ErrorKind::data, "{}: {} holds only {} bytes: the file is cut", where_, path, file_.bytes());
  }
  std::array<std::byte, kShardFooterBytes> bytes{};
  file_.read(bytes, file_.bytes() - kShardFooterBytes);
  footer_ = decode_shard_footer(bytes, file_.bytes(), where_);
  read_header(footer_);
  read_table(footer_);
}

void ShardReader::read_header(const ShardFooter& footer) {
  std::array<std::byte, kShardPrefixBytes> prefix{};
  file_.read(prefix, 0);
  const int64_t header_bytes = decode_shard_prefix(prefix, file_.bytes(), where_);
  std::string text(static_cast<size_t>(header_bytes), '\0');
  file_.read(std::as_writable_bytes(std::span(text)), kShardPrefixBytes);
  const uint32_t crc = crc32c(text, crc32c(prefix));
  if (crc != footer.crc_header) {
    fail(ErrorKind::data, "{}: header CRC32C {:08x}, expected {:08x}", where_, crc, footer.crc_header);
  }
  header_ = decode_shard_header(text, where_);
  const int64_t header_end = kShardPrefixBytes + header_bytes;
  data_offset_ = align_up(header_end, kShardDataAlign);
  const int64_t data_bytes = data_part_bytes(header_);
  if (footer.table_count != table_entries(header_) || footer.table_offset - data_offset_ != data_bytes) {
    fail(ErrorKind::data, "{}: {} data bytes and {} chunks, its header needs {} and {}", where_,
         footer.table_offset - data_offset_, footer.table_count, data_bytes, table_entries(header_));
  }
  std::vector<std::byte> gap(static_cast<size_t>(data_offset_ - header_end));
  file_.read(gap, header_end);
  check_zero(gap, "padding after the header");
}

void ShardReader::read_table(const ShardFooter& footer) {
  table_.resize(static_cast<size_t>(footer.table_count));
  file_.read(std::as_writable_bytes(std::span(table_)), footer.table_offset);
  const uint32_t crc = crc32c(std::as_bytes(std::span(table_)));
  if (crc != footer.crc_table) {
    fail(ErrorKind::data, "{}: chunk table CRC32C {:08x}, expected {:08x}", where_, crc, footer.crc_table);
  }
}

void ShardReader::check_zero(std::span<const std::byte> bytes, const std::string& what) const {
  const auto bad = std::find_if(bytes.begin(), bytes.end(), [](std::byte b) { return b != std::byte{0}; });
  if (bad != bytes.end()) fail(ErrorKind::data, "{}: {} is not zero", where_, what);
}

ShardFile ShardReader::identity() const {
  return {shard_name(header_.writer, header_.writers), file_.bytes(), footer_.crc_header, footer_.crc_table};
}

void ShardReader::check_identity(const ShardFile& expected, int64_t step) const {
  const ShardFile mine = identity();
  if (header_.step != step) {
    fail(ErrorKind::data, "{}: {} belongs to step {}, not {}", where_, file_.path(), header_.step, step);
  }
  if (mine.name != expected.name || mine.bytes != expected.bytes || mine.crc_header != expected.crc_header ||
      mine.crc_table != expected.crc_table) {
    fail(ErrorKind::data,
         "{}: {} is not the file of the manifest: {} of {} bytes, checksums {:08x} {:08x}, expected {} of {} bytes, "
         "checksums {:08x} {:08x}",
         where_, file_.path(), mine.name, mine.bytes, mine.crc_header, mine.crc_table, expected.name, expected.bytes,
         expected.crc_header, expected.crc_table);
  }
}

const ShardTensor& ShardReader::find(const std::string& name, const IndexPiece& piece) const {
  // Blobs lie in ascending order; empty slices share their begin with the next one.
  const auto before = [](const ShardTensor& tensor, int64_t begin) { return tensor.begin < begin; };
  auto found = std::lower_bound(header_.tensors.begin(), header_.tensors.end(), piece.begin, before);
  for (; found != header_.tensors.end() && found->begin == piece.begin; ++found) {
    if (found->name == name && found->offset == piece.offset && found->shape == piece.shape) return *found;
  }
  fail(ErrorKind::data, "{}: no slice {} at {} of '{}' at byte {}, which the manifest promises", where_,
       to_string(piece.shape), to_string(piece.offset), name, piece.begin);
}

int64_t ShardReader::read_chunks(const ShardTensor& tensor, int64_t first, int64_t count, std::span<std::byte> out,
                                 bool check_padding) const {
  const int64_t begin = first * header_.chunk;
  const int64_t end = std::min(tensor.bytes, begin + count * header_.chunk);
  const int64_t stop = end == tensor.bytes ? align_up(tensor.begin + end, kShardBlobAlign) - tensor.begin : end;
  const auto data = out.first(static_cast<size_t>(stop - begin));
  file_.read(data, data_offset_ + tensor.begin + begin);
  for (int64_t at = begin; at < end; at += header_.chunk) {
    const int64_t bytes = std::min(header_.chunk, end - at);
    const uint32_t crc = crc32c(data.subspan(static_cast<size_t>(at - begin), static_cast<size_t>(bytes)));
    const int64_t chunk = at / header_.chunk;
    const uint32_t expected = table_[static_cast<size_t>(tensor.chunk0 + chunk)];
    if (crc != expected) {
      fail(ErrorKind::data, "{} '{}' chunk {}: CRC32C {:08x}, expected {:08x}", where_, tensor.name, chunk, crc,
           expected);
    }
  }
  if (check_padding) check_zero(data.subspan(static_cast<size_t>(end - begin)), "padding after '" + tensor.name + "'");
  return end - begin;
}

}  // namespace farsight
