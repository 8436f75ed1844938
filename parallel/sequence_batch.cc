// SPDX-License-Identifier: Apache-2.0
#include "parallel/sequence_batch.h"

#include <algorithm>
#include <bit>
#include <map>
#include <mutex>
#include <span>
#include <tuple>

#include "kernels/cuda/device.h"
#include "kernels/error.h"
#include "kernels/rows.h"

namespace farsight {

namespace {

// Start of the document of each position of one row.
std::vector<int32_t> document_starts(const int32_t* documents, int64_t tokens) {
  std::vector<int32_t> starts(static_cast<size_t>(tokens), 0);
  for (int64_t p = 1; p < tokens; ++p) {
    const auto i = static_cast<size_t>(p);
    starts[i] = documents[p] == documents[p - 1] ? starts[i - 1] : static_cast<int32_t>(p);
  }
  return starts;
}

// The documents of an owner that holds one run of positions. Slots and length are powers of two, so that batches share
// the plans that a library makes for them.
PackedDocuments packed_documents(const SequenceRows& rows) {
  if (rows.runs.size() != 1 || rows.runs[0].step != 1 || rows.documents.numel() == 0) return {};
  const int64_t tokens = rows.runs[0].rows, all = rows.documents.numel();
  const int32_t* ids = rows.documents.data<int32_t>();
  std::vector<int32_t> starts;
  PackedDocuments packed;
  for (int64_t row = 0; row < all; ++row) {
    if (row % tokens != 0 && ids[row] == ids[row - 1]) continue;
    if (!starts.empty()) packed.longest = std::max(packed.longest, row - starts.back());
    starts.push_back(static_cast<int32_t>(row));
  }
  packed.longest = std::max(packed.longest, all - starts.back());
  packed.longest = std::min(tokens, static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(packed.longest))));
  packed.slots = static_cast<int64_t>(std::bit_ceil(starts.size()));
  starts.resize(static_cast<size_t>(packed.slots) + 1, static_cast<int32_t>(all));
  packed.starts = device_copy(std::span<const int32_t>(starts));
  return packed;
}

}  // namespace

// By device, because ranks that are threads of one process may share a batch; by layout and documents, because copies
// of a batch share this and may be given others (the ring inside a head exchange).
struct SequenceBatch::Uploaded {
  using Key = std::tuple<const CudaDevice*, const void*, SequenceLayout, int64_t>;
  std::mutex mutex;
  std::map<Key, SequenceRows> rows;
};

std::shared_ptr<SequenceBatch::Uploaded> SequenceBatch::make_uploaded() { return std::make_shared<Uploaded>(); }

SequenceRows SequenceBatch::device_rows(int64_t owner) const {
  if (current_device() == Device::cpu) return key_rows(owner);
  const std::lock_guard lock(uploaded_->mutex);
  const auto [found, fresh] = uploaded_->rows.try_emplace({&cuda_device(), documents.raw(), layout, owner});
  if (fresh) {
    SequenceRows host = key_rows(owner);
    found->second.runs = host.runs;
    found->second.positions = host.positions.to(Device::cuda);
    if (host.documents.defined()) {
      found->second.documents = host.documents.to(Device::cuda);
      found->second.packed = packed_documents(host);
    }
  }
  return found->second;
}

SequenceRows SequenceBatch::key_rows(int64_t owner) const {
  const std::vector<int32_t> own = layout.positions(owner);
  const auto n = static_cast<int64_t>(own.size());
  SequenceRows rows;
  rows.runs = position_runs(own);
  rows.positions = Tensor::empty({batch, n}, DType::i32, MemoryTag::attention, Device::cpu);
  if (documents.defined()) rows.documents = Tensor::empty({batch, n}, DType::i32, MemoryTag::attention, Device::cpu);
  for (int64_t b = 0; b < batch; ++b) {
    std::copy(own.begin(), own.end(), rows.positions.data<int32_t>() + b * n);
    if (!documents.defined()) continue;
    const int32_t* ids = documents.data<int32_t>() + b * tokens();
    std::transform(own.begin(), own.end(), rows.documents.data<int32_t>() + b * n, [ids](int32_t p) { return ids[p]; });
  }
  return rows;
}

SequenceRows SequenceBatch::rows(int64_t owner) const {
  SequenceRows rows = key_rows(owner);
  if (!documents.defined()) {
    rows.relative = rows.positions;
    return rows;
  }
  const int64_t n = rows.positions.dim(1);
  rows.relative = Tensor::empty({batch, n}, DType::i32, MemoryTag::attention, Device::cpu);
  for (int64_t b = 0; b < batch; ++b) {
    const auto starts = document_starts(documents.data<int32_t>() + b * tokens(), tokens());
    const int32_t* positions = rows.positions.data<int32_t>() + b * n;
    std::transform(positions, positions + n, rows.relative.data<int32_t>() + b * n,
                   [&starts](int32_t p) { return p - starts[static_cast<size_t>(p)]; });
  }
  return rows;
}

std::vector<uint64_t> SequenceBatch::keys(uint64_t seed, uint64_t step, uint64_t layer, Site site) const {
  std::vector<uint64_t> keys;
  for (const uint64_t sample : samples) keys.push_back(site_key(seed, step, sample, layer, site));
  return keys;
}

void SequenceBatch::check() const {
  if (documents.defined()) expect_shape("sequence batch", "documents", documents, {batch, tokens()});
  if (static_cast<int64_t>(samples.size()) != batch) {
    fail(ErrorKind::internal, "sequence batch: {} sample numbers for {} rows", samples.size(), batch);
  }
}

}  // namespace farsight
