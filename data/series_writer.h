// SPDX-License-Identifier: Apache-2.0
// Writes time series as an HDF5 file of kind "series" (series_format.md) with its checksum file. The file appears under
// its name only when it is complete, see data_writer.h.
#pragma once

#include <string>
#include <vector>

#include "data/data_writer.h"
#include "data/series.h"
#include "data/series_table.h"

namespace farsight {

using SeriesHeader = DataFileHeader;

// Statistics are those of the split "train", which must be there. Throws Error{data} when `path` exists and overwrite
// is off, for a table without split or channel, NaN without a mask or a number under it, time stamps that do not
// increase; Error{io} for failed writes. Nothing is left but a file that was there before. Returns the uuid.
std::string write_series(const std::string& path, const SeriesHeader& header, const SeriesTable& table);

}  // namespace farsight
