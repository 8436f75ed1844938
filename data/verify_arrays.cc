// SPDX-License-Identifier: Apache-2.0
#include "data/verify_arrays.h"

#include <algorithm>
#include <vector>

#include <xxhash.h>

#include "data/sidecar.h"
#include "kernels/error.h"

namespace farsight {

namespace {

constexpr int64_t kBlock = 1 << 18;  // elements read at once

uint64_t content_hash(const File& file, const ArrayDescriptor& array) {
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(), XXH3_freeState);
  XXH3_64bits_reset(state.get());
  if (array.size > 0) {
    const std::unique_ptr<ArrayReader> reader = open_array(file, array, DataIo::pread);
    std::vector<std::byte> block(static_cast<size_t>(std::min(kBlock, array.size) * array.width));
    for (int64_t begin = 0; begin < array.size; begin += kBlock) {
      const int64_t count = std::min(kBlock, array.size - begin);
      reader->read(begin, count, block.data());
      XXH3_64bits_update(state.get(), block.data(), static_cast<size_t>(count * array.width));
    }
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace

ArrayVerifier::ArrayVerifier(const DataFileInfo& info) : info_(info), file_(File::open_read(info.file)) {
  if (!path_exists(sidecar_path(info.file))) return;
  verify_sidecar(info.file, info.uuid);
  report_.sidecar = true;
}

void ArrayVerifier::refuse_untrusted(const ArrayDescriptor& array) const {
  // An empty array has no storage: there is nothing to decode.
  if (array.storage != Storage::library || array.size == 0 || report_.sidecar) return;
  fail(ErrorKind::data, "{}: '{}' can only be read through libhdf5, and there is no {}.sum to vouch for it", info_.file,
       array.path, info_.file);
}

void ArrayVerifier::check_hash(const ArrayDescriptor& array) {
  refuse_untrusted(array);
  if (!array.content_xxh3) {
    report_.unhashed.push_back(array.path);
    return;
  }
  const uint64_t found = content_hash(file_, array);
  if (found != *array.content_xxh3) {
    fail(ErrorKind::data, "{}: '{}' has content hash {:016x}, {:016x} expected: damaged or edited", info_.file,
         array.path, found, *array.content_xxh3);
  }
  ++report_.hashed;
}

}  // namespace farsight
