// SPDX-License-Identifier: Apache-2.0
// What NCCL does on a real device. An operation comes to its meeting when its stream gets there and is over when all
// ranks have come; the last one computes for all. A sum begins at another rank in each part of the data and rounds at
// every hop, as a ring does, so that nobody relies on rank order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <sstream>
#include <stdexcept>

#include "kernels/bfloat16.h"
#include "kernels/cuda/collectives_cuda.h"
#include "kernels/cuda/operations_cuda.h"
#include "tests/emulation/ranks.h"
#include "tests/emulation/streams.h"

namespace farsight::cuda {
namespace {

using emulation::EmulatedGroup;
using emulation::issue_clock;
using emulation::IssueClock;
using emulation::Letter;
using emulation::Meeting;
using emulation::Work;

double get(DType type, const void* data, int64_t at) {
  if (type == DType::f64) return static_cast<const double*>(data)[at];
  if (type == DType::f32) return static_cast<double>(static_cast<const float*>(data)[at]);
  return static_cast<double>(bf16_to_float(static_cast<const uint16_t*>(data)[at]));
}
// As `type` holds it. Adding two floats in double and rounding once more is adding them in float.
double rounded(DType type, double value) {
  if (type == DType::f64) return value;
  const auto single = static_cast<float>(value);
  return static_cast<double>(type == DType::f32 ? single : bf16_to_float(float_to_bf16(single)));
}
void put(DType type, void* data, int64_t at, double value) {
  if (type == DType::f64) {
    static_cast<double*>(data)[at] = value;
  } else if (type == DType::f32) {
    static_cast<float*>(data)[at] = static_cast<float>(value);
  } else {
    static_cast<uint16_t*>(data)[at] = float_to_bf16(static_cast<float>(value));
  }
}

double combine(CudaReduceOp op, DType type, double a, double b) {
  if (op == CudaReduceOp::sum) return rounded(type, a + b);
  return op == CudaReduceOp::max ? std::fmax(a, b) : std::fmin(a, b);
}

// Elements [begin, begin + count) of all inputs.
std::vector<double> reduced(DType type, CudaReduceOp op, const std::vector<const void*>& inputs, int64_t begin,
                            int64_t count) {
  const auto n = static_cast<int64_t>(inputs.size());
  std::vector<double> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = i * n / count + 1;
    double value = get(type, inputs[static_cast<size_t>(first % n)], begin + i);
    for (int64_t hop = 1; hop < n; ++hop) {
      value = combine(op, type, value, get(type, inputs[static_cast<size_t>((first + hop) % n)], begin + i));
    }
    out[static_cast<size_t>(i)] = value;
  }
  return out;
}

void put_all(DType type, void* to, const std::vector<double>& values) {
  for (size_t i = 0; i < values.size(); ++i) put(type, to, static_cast<int64_t>(i), values[i]);
}

template <class... Parts>
std::string describe(const char* operation, const std::vector<int64_t>& counts, Parts... parts) {
  std::ostringstream text;
  text << operation;
  ((text << ' ' << static_cast<int>(parts)), ...);
  for (const int64_t c : counts) text << ' ' << c;
  return text.str();
}

// The group's operations of one rank from here on: refused, endless, or number `operations`.
int admit(CudaRanks ranks, const char* what, bool* endless) {
  if (ranks->aborted) return failed(4, what, "the group was aborted");
  const std::lock_guard lock(ranks->group->mutex);
  if (!ranks->group->failure.empty()) return failed(6, what, ranks->group->failure.c_str());
  ++issue_clock()[ranks->group->serial];
  *endless = ranks->operations++ == ranks->breaks;
  return 0;
}

// Aborted: its work ends.
bool over(const EmulatedGroup& group, int rank) { return !group.present[static_cast<size_t>(rank)]; }

Work endless_work(const std::shared_ptr<EmulatedGroup>& group, int rank) {
  return [group, rank] {
    const std::lock_guard lock(group->mutex);
    group->failure = "injected: link down";
    return over(*group, rank);
  };
}

using Compute = std::function<void(const Meeting&)>;

bool same_order(const IssueClock& a, const IssueClock& b) {
  return std::all_of(a.begin(), a.end(), [&b](const auto& entry) {
    const auto found = b.find(entry.first);  // else the other rank is not in that group
    return found == b.end() || found->second == entry.second;
  });
}

// Comes, once, and says whether the meeting is over.
bool attend(EmulatedGroup& group, uint64_t number, int rank, const IssueClock& clock, const std::string& call,
            const void* input, void* output, const Compute& compute) {
  const std::lock_guard lock(group.mutex);
  const auto known = group.meetings.find(number);
  const bool done = known != group.meetings.end() && known->second.done;  // a failure does not undo it
  if (!done && !group.failure.empty()) return over(group, rank);
  Meeting& m = group.meetings[number];
  if (m.came.empty()) {
    m.clock = clock;
    m.call = call;
    m.came.resize(static_cast<size_t>(group.size()));
    m.inputs.resize(static_cast<size_t>(group.size()));
    m.outputs.resize(static_cast<size_t>(group.size()));
  }
  const auto me = static_cast<size_t>(rank);
  if (!m.came[me]) {
    m.came[me] = true;
    m.inputs[me] = input;
    m.outputs[me] = output;
    ++m.come;
    if (m.call != call)
      m.error = "operation " + std::to_string(number) + ": one rank calls " + m.call + ", rank " +
                std::to_string(rank) + " calls " + call;
    if (!same_order(m.clock, clock)) {
      m.error = call + ": rank " + std::to_string(rank) + " has started other operations of its groups before it";
    }
    if (m.come == group.size() && m.error.empty()) compute(m);
    m.done = m.come == group.size() || !m.error.empty();
  }
  if (!m.error.empty()) throw std::runtime_error(m.error);
  if (!m.done) return false;
  if (++m.left == group.size()) group.meetings.erase(number);
  return true;
}

int enqueue_meeting(CudaRanks ranks, const char* what, std::string call, const void* input, void* output,
                    Compute compute, CudaStream stream) {
  bool endless = false;
  if (int status = admit(ranks, what, &endless)) return status;
  if (endless) return emulation::enqueue_shared(stream, endless_work(ranks->group, ranks->rank));
  return emulation::enqueue_shared(
      stream, [group = ranks->group, number = ranks->collectives++, rank = ranks->rank, clock = issue_clock(),
               call = std::move(call), input, output, compute = std::move(compute)] {
        return attend(*group, number, rank, clock, call, input, output, compute);
      });
}

int all_reduce(const CudaAllReduce* arguments, CudaStream stream) {
  const CudaAllReduce a = *arguments;
  if (a.count == 0) return 0;
  const auto compute = [a](const Meeting& m) {
    const auto values = reduced(a.type, a.op, m.inputs, 0, a.count);
    for (void* out : m.outputs) put_all(a.type, out, values);
  };
  return enqueue_meeting(a.ranks, "all_reduce", describe("all_reduce", {a.count}, a.type, a.op), a.data, a.data,
                         compute, stream);
}

int reduce_scatter(const CudaReduceScatter* arguments, CudaStream stream) {
  const CudaReduceScatter a = *arguments;
  const std::vector<int64_t> counts(a.counts, a.counts + a.ranks->group->size());
  if (std::accumulate(counts.begin(), counts.end(), int64_t{0}) == 0) return 0;
  const auto compute = [a, counts](const Meeting& m) {
    int64_t begin = 0;
    std::vector<std::vector<double>> pieces;
    for (const int64_t count : counts) {
      pieces.push_back(reduced(a.type, a.op, m.inputs, begin, count));
      begin += count;
    }
    for (size_t r = 0; r < pieces.size(); ++r) put_all(a.type, m.outputs[r], pieces[r]);
  };
  return enqueue_meeting(a.ranks, "reduce_scatter", describe("reduce_scatter", counts, a.type, a.op), a.data, a.mine,
                         compute, stream);
}

int all_gather(const CudaAllGather* arguments, CudaStream stream) {
  const CudaAllGather a = *arguments;
  const std::vector<int64_t> bytes(a.bytes, a.bytes + a.ranks->group->size());
  if (std::accumulate(bytes.begin(), bytes.end(), int64_t{0}) == 0) return 0;
  const auto compute = [bytes](const Meeting& m) {
    for (void* out : m.outputs) {
      auto* to = static_cast<std::byte*>(out);
      for (size_t r = 0; r < bytes.size(); to += bytes[r++]) {
        if (bytes[r] > 0) std::memmove(to, m.inputs[r], static_cast<size_t>(bytes[r]));
      }
    }
  };
  return enqueue_meeting(a.ranks, "all_gather", describe("all_gather", bytes), a.mine, a.all, compute, stream);
}

// One side of a message comes to it.
struct Side {
  std::tuple<int, int, uint64_t> address;
  void* data;
  int64_t bytes;
  bool sending;
};

void hand_over(EmulatedGroup& group, const Side& side) {
  Letter& letter = group.letters[side.address];
  if (side.sending) {
    letter.from = side.data;
    letter.sent_bytes = side.bytes;
  } else {
    letter.to = side.data;
    letter.expected_bytes = side.bytes;
  }
  if (letter.from == nullptr || letter.to == nullptr) return;
  if (letter.sent_bytes != letter.expected_bytes) {
    throw std::runtime_error("rank " + std::to_string(std::get<0>(side.address)) + " sends " +
                             std::to_string(letter.sent_bytes) + " bytes, rank " +
                             std::to_string(std::get<1>(side.address)) + " expects " +
                             std::to_string(letter.expected_bytes));
  }
  std::memmove(letter.to, letter.from, static_cast<size_t>(side.bytes));
  letter.done = true;
}

// Posts all sides the first time; true once every one of them has met its other side.
bool exchange(EmulatedGroup& group, int rank, const std::vector<Side>& waiting, bool& posted) {
  const std::lock_guard lock(group.mutex);
  if (!posted && group.failure.empty()) {
    posted = true;
    for (const Side& side : waiting) hand_over(group, side);
  }
  const auto done = [&](const Side& side) { return group.letters[side.address].done; };
  return over(group, rank) || (posted && std::all_of(waiting.begin(), waiting.end(), done));
}

int transfer(const CudaTransfers* a, CudaStream stream) {
  CudaRanks ranks = a->ranks;
  std::vector<Side> sides;
  for (int64_t i = 0; i < a->count; ++i) {
    const CudaTransfer& t = a->transfers[i];
    if (t.peer < 0 || t.peer >= ranks->group->size()) return failed(4, "messages", "there is no such peer");
    if (t.bytes == 0) continue;
    const bool sending = t.sending != 0;
    sides.push_back(sending ? Side{{ranks->rank, t.peer, ranks->sent[t.peer]++}, t.data, t.bytes, sending}
                            : Side{{t.peer, ranks->rank, ranks->received[t.peer]++}, t.data, t.bytes, sending});
  }
  if (sides.empty()) return 0;
  bool endless = false;
  if (int status = admit(ranks, "messages", &endless)) return status;
  if (endless) return emulation::enqueue_shared(stream, endless_work(ranks->group, ranks->rank));
  return emulation::enqueue_shared(
      stream, [group = ranks->group, rank = ranks->rank, sides = std::move(sides), posted = false]() mutable {
        return exchange(*group, rank, sides, posted);
      });
}

}  // namespace

void name_collectives(CudaBackend& table) {
  emulation::name_groups(table);
  table.all_reduce = all_reduce;
  table.reduce_scatter = reduce_scatter;
  table.all_gather = all_gather;
  table.transfer = transfer;
}

}  // namespace farsight::cuda
