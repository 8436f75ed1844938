// SPDX-License-Identifier: Apache-2.0
// Opening a data file to read its metadata: what must hold for every kind of file. Untrusted input, see probe.cc.
#pragma once

#include <string>
#include <vector>

#include "data/data_file.h"
#include "data/hdf5.h"

namespace farsight {

// Names and size on disk; Error{data} for what is not there, empty, a Git LFS pointer, or no HDF5 file.
int64_t check_is_hdf5(const std::string& path);

// The caller holds h5::Lock as long as the object lives.
struct OpenDataFile {
  h5::Context context;
  h5::Handle file, root;
  std::string kind;   // "tokens" | "series" | ...
  DataFileInfo info;  // without sidecar
};
// Error{data} for links that lead out of the file or in circles, HDF5 of another program, a newer format.
OpenDataFile open_data_file(const std::string& path, int64_t bytes);

// Whether FILE.sum is there and names this uuid and size.
bool sidecar_names(const DataFileInfo& info);

}  // namespace farsight
