// SPDX-License-Identifier: Apache-2.0
// Writes time series as an HDF5 file of kind "series" (series_format.md) with its checksum file. The file appears under
// its name only when it is complete, like a corpus (corpus_writer.h).
#pragma once

#include <string>
#include <vector>

#include "data/series_table.h"

namespace farsight {

struct SeriesHeader {
  std::string tool, command, licence, normalised;
  std::vector<std::string> source_names, source_sha256;
  bool reproducible = false;  // uuid and time derive from the content
  bool compress = false;      // chunks with shuffle and deflate: for archives
  bool overwrite = false;
};

// Statistics are those of the split "train", which must be there. Throws Error{data} when `path` exists and overwrite
// is off, for a table without split or channel, NaN without a mask, time stamps that do not increase; Error{io} for
// failed writes. Nothing is left but a file that was there before. Returns the uuid.
std::string write_series(const std::string& path, const SeriesHeader& header, const SeriesTable& table);

}  // namespace farsight
