// SPDX-License-Identifier: Apache-2.0
// Writes a data file of any kind with its checksum file. The file appears under its name only when it is complete: it
// is written as FOLDER/.NAME.tmp-UUID, closed, synced, and renamed after its checksum file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "data/hdf5.h"

struct XXH3_state_s;

namespace farsight {

struct DataFileHeader {
  std::string tool, command, licence, normalised;
  std::vector<std::string> source_names, source_sha256;
  bool reproducible = false;  // uuid and time derive from the content
  bool compress = false;      // chunks with shuffle and deflate: for archives
  bool overwrite = false;
};

// Error{data} naming --overwrite when `path` exists.
void refuse_existing(const std::string& path, bool overwrite);

// `fill` writes groups and arrays into the file and returns the hashes of all content as text, from which a
// reproducible uuid derives. It is called under h5::Lock. Throws Error{data} when `path` exists and overwrite is off,
// Error{io} for failed writes; then nothing is left but a file that was there before. Returns the uuid.
using FillDataFile = std::function<std::string(const h5::Context& context, hid_t file)>;
std::string write_data_file(const std::string& path, const DataFileHeader& header, const std::string& kind,
                            const FillDataFile& fill);

// A dataset that is filled from its beginning, hashed on the way. columns > 0: two-dimensional, [size / columns,
// columns]. chunk: elements of a chunk (whole rows) when compressed.
class ArrayWriter {
 public:
  struct Extent {
    int64_t size = 0;
    int64_t columns = 0;
    bool compress = false;
    int64_t chunk = int64_t{1} << 20;
  };
  ArrayWriter(const h5::Context& context, hid_t group, const std::string& name, hid_t type, const Extent& extent);

  // The next `count` elements (whole rows).
  void append(const void* data, int64_t count);
  hid_t id() const { return dataset_.get(); }
  // Writes the hash, which it returns, and closes the dataset.
  uint64_t finish();

 private:
  struct HashDeleter {
    void operator()(XXH3_state_s* state) const;
  };
  h5::Context context_;
  std::string name_;
  hid_t type_;
  int64_t columns_;
  std::unique_ptr<XXH3_state_s, HashDeleter> hash_;
  h5::Handle dataset_;
  int64_t written_ = 0;
};

}  // namespace farsight
