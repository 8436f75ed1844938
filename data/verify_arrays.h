// SPDX-License-Identifier: Apache-2.0
// What verification does to any data file: every byte against the checksum file, arrays against their content hashes.
#pragma once

#include <memory>
#include <string>

#include "data/array_reader.h"
#include "data/file.h"
#include "data/verify.h"

namespace farsight {

class ArrayVerifier {
 public:
  // Compares every byte with the checksum file where there is one. Error{data} where they differ.
  explicit ArrayVerifier(const DataFileInfo& info);

  const File& file() const { return file_; }
  const VerifyReport& report() const { return report_; }
  // Error{data} for an array that only libhdf5 can decode in a file that no checksum file vouches for.
  void refuse_untrusted(const ArrayDescriptor& array) const;
  // Compares the elements with content_xxh3. Error{data} naming the array and both hashes.
  void check_hash(const ArrayDescriptor& array);

 private:
  const DataFileInfo& info_;
  File file_;
  VerifyReport report_;
};

}  // namespace farsight
