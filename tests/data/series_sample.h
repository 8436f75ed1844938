// SPDX-License-Identifier: Apache-2.0
// Random tables of time series, and files of them changed straight through the HDF5 library, so that tests choose
// storage, types and defects that `farsight data csv` never produces.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <hdf5.h>

#include "data/series_table.h"

namespace farsight {

struct RandomTable {
  int64_t channels = 0;  // 0: 1 to 20
  bool masks = true;     // of some series
  Frequency frequency = {};
};
// 1 to 4 series of 60 to 160 rows with ids that links cannot hold, splits train, valid and test, roles, units, static
// numbers.
SeriesTable random_table(uint64_t seed, const RandomTable& shape);

// The file of the table, at `path`, which it returns.
std::string write_table(const std::string& path, const SeriesTable& table, bool compress = false);

enum class SeriesStorage : uint8_t {
  chunks,       // without a filter
  half_chunks,  // without a filter, of some of the columns
  deflate,      // chunks with shuffle and deflate
  big_endian,   // contiguous, elements in the other byte order
  compact,      // inside the object header
  float64       // contiguous; values only, the other arrays stay
};
// Stores values, time and mask of every series in another way. The numbers stay; there is no checksum file afterwards.
void change_storage(const std::string& path, SeriesStorage storage);

// Opens the file for writing and removes its checksum file.
void edit_file(const std::string& path, const std::function<void(hid_t file)>& edit);
void remove_link(hid_t file, const std::string& path);
// A dataset of `type` in place of what is there.
void put_numbers(hid_t file, const std::string& path, hid_t type, const std::vector<hsize_t>& shape,
                 const std::vector<double>& values);

// A new checksum file, as if the file had been meant to be this way.
void sign_file(const std::string& path);

}  // namespace farsight
