// SPDX-License-Identifier: Apache-2.0
// Writing and reading one shard file.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/shard_format.h"
#include "trainer/file_system.h"

namespace farsight {

std::string shard_name(int64_t writer, int64_t writers);  // shard-00000-of-00008.fss

// Writes, syncs and closes a new file. image: the packed data part. The same header and image give the same bytes.
// Error{io}: also when the file system says beforehand that the space is not there.
ShardFile write_shard(FileSystem& files, const std::string& directory, const ShardHeader& header,
                      std::span<const std::byte> image);

// An open shard whose footer, header, chunk table and header padding have been checked. Thread safe.
class ShardReader {
 public:
  // number: position in the manifest's files, for messages. Error{data} "shard N ...", Error{io}.
  ShardReader(FileSystem& files, const std::string& path, int64_t number);

  // Error{data} unless this is the file the manifest speaks of.
  void check_identity(const ShardFile& expected, int64_t step) const;
  const ShardHeader& header() const { return header_; }
  ShardFile identity() const;
  // The stored slice of this name at this offset; Error{data} if there is none.
  const ShardTensor& find(const std::string& name, const IndexPiece& piece) const;
  // Chunks [first, first + count) of a tensor, each verified, into `out` (at least count * chunk + 64 bytes).
  // Returns the bytes of tensor data. check_padding: the bytes after the last chunk must be zero.
  int64_t read_chunks(const ShardTensor& tensor, int64_t first, int64_t count, std::span<std::byte> out,
                      bool check_padding) const;

 private:
  void read_header(const ShardFooter& footer);
  void read_table(const ShardFooter& footer);
  void check_zero(std::span<const std::byte> bytes, const std::string& what) const;

  InputFile file_;
  std::string where_;
  ShardHeader header_;
  ShardFooter footer_;
  std::vector<uint32_t> table_;
  int64_t data_offset_ = 0;
};

}  // namespace farsight
