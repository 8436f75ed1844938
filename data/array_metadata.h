// SPDX-License-Identifier: Apache-2.0
// The description of one array of a data file, read from its metadata. What is found here is untrusted until
// check_array (array_check.h) has seen it. The caller holds h5::Lock.
#pragma once

#include <string>

#include "data/data_file.h"
#include "data/hdf5.h"

namespace farsight {

// integers, reals: one-dimensional. integer_rows, real_rows: two-dimensional, rows of columns.
enum class ArrayForm : uint8_t { integers, reals, integer_rows, real_rows };

// Throws Error{data} naming `path` for a dataset of another type or rank, of a storage or filter that is not accepted,
// of an absurd extent.
ArrayDescriptor describe_array(const h5::Context& context, hid_t dataset, ArrayForm form, const std::string& path,
                               int64_t file_bytes);

// Fills array.head: what everyone who opens the array must find at its beginning. Outside the lock.
void read_array_head(const std::string& file, int64_t file_bytes, ArrayDescriptor& array);

}  // namespace farsight
