// SPDX-License-Identifier: Apache-2.0
#include "parallel/message_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <numeric>
#include <string_view>
#include <utility>

#include "kernels/error.h"
#include "kernels/random.h"
#include "parallel/all_reduce.h"
#include "parallel/ordered_reduce.h"
#include "parallel/reduce_scatter.h"
#include "parallel/shared_collective.h"

namespace farsight {

namespace {

constexpr int kCollectiveTags = 8192;  // tags [kUserTags, kUserTags + kCollectiveTags): below MPI's guaranteed 32767

template <typename T>
const char* type_name() {
  return to_string(dtype_of<T>());
}

// A message of any length, cut into pieces that the transport can count.
class PiecedMessage final : public Operation {
 public:
  explicit PiecedMessage(std::vector<MessagePtr> pieces) : pieces_(std::move(pieces)) {}
  bool advance() override {
    std::erase_if(pieces_, [](const MessagePtr& m) { return m->test(); });
    return pieces_.empty();
  }

 private:
  std::vector<MessagePtr> pieces_;
};

// Several messages as one operation.
class AllOf final : public Operation {
 public:
  explicit AllOf(std::vector<std::unique_ptr<Operation>> parts) : parts_(std::move(parts)) {}
  bool advance() override {
    std::erase_if(parts_, [](const std::unique_ptr<Operation>& part) { return part->advance(); });
    return parts_.empty();
  }

 private:
  std::vector<std::unique_ptr<Operation>> parts_;
};

}  // namespace

MessageCommunicator::MessageCommunicator(std::unique_ptr<Transport> transport, std::shared_ptr<RankEngine> engine,
                                         std::string name)
    : transport_(std::move(transport)), engine_(std::move(engine)), name_(std::move(name)) {}

MessageCommunicator::~MessageCommunicator() = default;

void MessageCommunicator::abort(int code) {
  transport_->abort(code);
  std::terminate();  // not reached; g++ does not trust a virtual function to keep its promise
}

uint64_t MessageCommunicator::log(const char* operation, int peer, int64_t count, const char* type,
                                  const CallSite& at) {
  FlightEntry entry;
  entry.axis = name_;
  entry.axis_sequence = ++operations_;
  entry.operation = operation;
  entry.peer = peer;
  entry.count = count;
  entry.type = type;
  entry.site = at;
  return engine_->log.begin(std::move(entry));
}

// Several collectives may be under way at once and advance in different orders on different ranks: each has its tag.
int MessageCommunicator::collective_tag() {
  return kUserTags + static_cast<int>(collectives_++ % static_cast<uint64_t>(kCollectiveTags));
}

int64_t MessageCommunicator::largest_piece() const {
  return std::min(engine_->options.staging_bytes, engine_->options.piece_bytes);
}

SharedArea* MessageCommunicator::shared(int64_t bytes) const {
  return bytes >= engine_->options.shared_bytes ? transport_->shared() : nullptr;
}

template <typename T>
std::unique_ptr<Operation> MessageCommunicator::large_all_reduce(std::span<T> data, ReduceOp op, int tag) {
  if (SharedArea* area = shared(static_cast<int64_t>(data.size_bytes()))) return shared_all_reduce(*area, data, op);
  return std::make_unique<LargeAllReduce<T>>(*transport_, data, op, tag, largest_piece());
}

void MessageCommunicator::wait(Operation& operation) {
  const RankEngine::Waiting waiting(*engine_);
  for (int64_t fruitless = 0; !operation.advance(); ++fruitless) {
    engine_->progress();
    transport_->idle(fruitless);
  }
}

std::unique_ptr<Operation> MessageCommunicator::message(bool sending, std::byte* data, int64_t bytes, int peer,
                                                        int tag) {
  std::vector<MessagePtr> pieces;
  int64_t begin = 0;
  do {
    const int64_t count = std::min(engine_->options.piece_bytes, bytes - begin);
    pieces.push_back(sending ? transport_->send(data + begin, count, peer, tag)
                             : transport_->receive(data + begin, count, peer, tag));
    begin += count;
  } while (begin < bytes);
  return std::make_unique<PiecedMessage>(std::move(pieces));
}

RequestPtr MessageCommunicator::make_request(std::unique_ptr<Operation> operation, uint64_t sequence) {
  return farsight::make_request(std::move(operation), engine_, *transport_, sequence);
}

void MessageCommunicator::exchange(const std::byte* out, int64_t out_bytes, int to, std::byte* in, int64_t in_bytes,
                                   int from, int tag) {
  const auto receiving = message(/*sending=*/false, in, in_bytes, from, tag);
  const auto sending = message(/*sending=*/true, const_cast<std::byte*>(out), out_bytes, to, tag);
  wait(*receiving);
  wait(*sending);
}

// Bruck's all-gather: after round k a rank holds the blocks of 2^(k+1) consecutive ranks, its own first.
void MessageCommunicator::gather_small(std::byte* blocks, int64_t bytes, int tag) {
  const int n = size();
  std::vector<std::byte> rotated(static_cast<size_t>(bytes) * static_cast<size_t>(n));
  std::memcpy(rotated.data(), blocks + bytes * rank(), static_cast<size_t>(bytes));
  for (int have = 1; have < n; have *= 2) {
    const int64_t more = std::min(have, n - have);
    exchange(rotated.data(), more * bytes, (rank() - have + n) % n, rotated.data() + have * bytes, more * bytes,
             (rank() + have) % n, tag);
  }
  for (int i = 0; i < n; ++i) {
    std::memcpy(blocks + bytes * ((rank() + i) % n), rotated.data() + bytes * i, static_cast<size_t>(bytes));
  }
}

void MessageCommunicator::check(const char* operation, int peer, int64_t count, const char* type, const CallSite& at) {
  if (!engine_->options.checked || size() == 1) return;
  uint64_t text = 14695981039346656037ULL;  // FNV-1a of the two names
  for (const std::string_view part : {std::string_view(operation), std::string_view(type)}) {
    for (const char c : part) text = (text ^ static_cast<uint64_t>(c)) * 1099511628211ULL;
  }
  std::vector<std::array<uint64_t, 2>> calls(static_cast<size_t>(size()));
  calls[static_cast<size_t>(rank())] = {
      hash64(
          std::array<uint64_t, 4>{static_cast<uint64_t>(peer + 1), static_cast<uint64_t>(count), collectives_, text}),
      static_cast<uint64_t>(count)};
  gather_small(reinterpret_cast<std::byte*>(calls.data()), static_cast<int64_t>(sizeof(calls[0])), collective_tag());
  std::string others;
  for (int r = 0; r < size(); ++r) {
    const auto& call = calls[static_cast<size_t>(r)];
    if (call[0] != calls[static_cast<size_t>(rank())][0]) others += fmt::format(" {} (count {})", r, call[1]);
  }
  if (others.empty()) return;
  fail(ErrorKind::internal,
       "rank {} of axis {}: {} #{} of {} x {} at {}:{} does not match what these ranks call:{}; all ranks must call "
       "the same collectives in the same order",
       rank(), name_, operation, collectives_, count, type, at.file_name(), at.line(), others);
}

void MessageCommunicator::barrier(CallSite at) {
  check("barrier", -1, 0, "byte", at);
  const uint64_t sequence = log("barrier", -1, 0, "byte", at);
  std::vector<std::byte> blocks(static_cast<size_t>(size()));
  gather_small(blocks.data(), 1, collective_tag());
  engine_->log.finish(sequence);
}

template <typename T>
void MessageCommunicator::reduce_small(std::span<T> data, ReduceOp op, int tag) {
  const size_t count = data.size();
  std::vector<T> all(count * static_cast<size_t>(size()));
  std::copy(data.begin(), data.end(), all.begin() + static_cast<std::ptrdiff_t>(count) * rank());
  gather_small(reinterpret_cast<std::byte*>(all.data()), static_cast<int64_t>(data.size_bytes()), tag);
  std::vector<const T*> contributions;
  for (int r = 0; r < size(); ++r) contributions.push_back(all.data() + count * static_cast<size_t>(r));
  reduce_in_order<T>(contributions, data.data(), static_cast<int64_t>(count), op);
}

template <typename T>
void MessageCommunicator::reduce(std::span<T> data, ReduceOp op, const CallSite& at) {
  check("all_reduce", static_cast<int>(op), static_cast<int64_t>(data.size()), type_name<T>(), at);
  const uint64_t sequence = log("all_reduce", -1, static_cast<int64_t>(data.size()), type_name<T>(), at);
  const int tag = collective_tag();
  const auto bytes = static_cast<int64_t>(data.size_bytes());
  if (bytes <= kSmallBytes && shared(bytes) == nullptr) {
    if (size() > 1 && !data.empty()) reduce_small(data, op, tag);
  } else {
    wait(*large_all_reduce(data, op, tag));
  }
  engine_->log.finish(sequence);
}

void MessageCommunicator::all_reduce(std::span<float> data, ReduceOp op, CallSite at) { reduce(data, op, at); }
void MessageCommunicator::all_reduce(std::span<double> data, ReduceOp op, CallSite at) { reduce(data, op, at); }
void MessageCommunicator::all_reduce(std::span<int64_t> data, ReduceOp op, CallSite at) { reduce(data, op, at); }

RequestPtr MessageCommunicator::all_reduce_async(std::span<float> data, ReduceOp op, CallSite at) {
  check("all_reduce_async", static_cast<int>(op), static_cast<int64_t>(data.size()), type_name<float>(), at);
  const uint64_t sequence = log("all_reduce_async", -1, static_cast<int64_t>(data.size()), type_name<float>(), at);
  auto request = make_request(large_all_reduce(data, op, collective_tag()), sequence);
  request->test();
  return request;
}

void MessageCommunicator::broadcast(std::span<std::byte> data, int root, CallSite at) {
  const auto bytes = static_cast<int64_t>(data.size());
  check_peer(root, 0);
  check("broadcast", root, bytes, "byte", at);
  const uint64_t sequence = log("broadcast", root, bytes, "byte", at);
  const int tag = collective_tag();
  const int n = size();
  const int me = (rank() - root + n) % n;  // binomial tree with the root at 0: i receives from i minus its top bit
  int top = 1;
  while (top * 2 <= me) top *= 2;
  if (me > 0) wait(*message(/*sending=*/false, data.data(), bytes, (me - top + root) % n, tag));
  std::vector<std::unique_ptr<Operation>> sends;
  for (int bit = me == 0 ? 1 : top * 2; me + bit < n; bit *= 2) {
    sends.push_back(message(/*sending=*/true, data.data(), bytes, (me + bit + root) % n, tag));
  }
  for (const auto& s : sends) wait(*s);
  engine_->log.finish(sequence);
}

void MessageCommunicator::all_gather(std::span<const std::byte> mine, std::span<std::byte> all,
                                     std::span<const int64_t> counts, CallSite at) {
  all_gather_async(mine, all, counts, at)->wait();
}

void MessageCommunicator::check_pieces(const char* operation, std::span<const int64_t> counts, size_t elements) const {
  const bool negative = std::any_of(counts.begin(), counts.end(), [](int64_t c) { return c < 0; });
  const int64_t total = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  if (!negative && static_cast<int>(counts.size()) == size() && total == static_cast<int64_t>(elements)) return;
  fail(ErrorKind::internal, "{} on axis {}: {} counts that sum to {} for {} ranks and room for {}", operation, name_,
       counts.size(), total, size(), elements);
}

std::unique_ptr<Operation> MessageCommunicator::exchange_pieces(std::span<const std::byte> out,
                                                                std::span<const int64_t> out_counts,
                                                                std::span<std::byte> in,
                                                                std::span<const int64_t> in_counts, int tag) {
  const int n = size();
  const auto begin_of = [](std::span<const int64_t> counts, int r) {
    return std::accumulate(counts.begin(), counts.begin() + r, int64_t{0});
  };
  std::vector<std::unique_ptr<Operation>> messages;
  for (int step = 1; step < n; ++step) {
    const int from = (rank() - step + n) % n;
    const int64_t bytes = in_counts[static_cast<size_t>(from)];
    if (bytes > 0) {
      messages.push_back(message(/*sending=*/false, in.data() + begin_of(in_counts, from), bytes, from, tag));
    }
  }
  for (int step = 1; step < n; ++step) {
    const int to = (rank() + step) % n;
    const int64_t bytes = out_counts[static_cast<size_t>(to)];
    std::byte* data = const_cast<std::byte*>(out.data()) + begin_of(out_counts, to);
    if (bytes > 0) messages.push_back(message(/*sending=*/true, data, bytes, to, tag));
  }
  const std::byte* own = out.data() + begin_of(out_counts, rank());
  std::byte* place = in.data() + begin_of(in_counts, rank());
  if (own != place && out_counts[static_cast<size_t>(rank())] > 0) {
    std::memmove(place, own, static_cast<size_t>(out_counts[static_cast<size_t>(rank())]));
  }
  return std::make_unique<AllOf>(std::move(messages));
}

RequestPtr MessageCommunicator::reduce_scatter_async(std::span<const float> data, std::span<float> mine,
                                                     std::span<const int64_t> counts, ReduceOp op, CallSite at) {
  check_pieces("reduce_scatter", counts, data.size());
  if (static_cast<int64_t>(mine.size()) != counts[static_cast<size_t>(rank())]) {
    fail(ErrorKind::internal, "reduce_scatter on axis {}: room for {} elements, the own piece has {}", name_,
         mine.size(), counts[static_cast<size_t>(rank())]);
  }
  const auto total = static_cast<int64_t>(data.size());
  check("reduce_scatter", static_cast<int>(op), total, type_name<float>(), at);
  const uint64_t sequence = log("reduce_scatter", -1, total, type_name<float>(), at);
  const int tag = collective_tag();
  if (SharedArea* area = shared(static_cast<int64_t>(data.size_bytes()))) {
    return make_request(shared_reduce_scatter(*area, data, mine, counts, op), sequence);
  }
  return make_request(std::make_unique<ReduceScatter>(*transport_, data, mine, counts, op, tag, largest_piece()),
                      sequence);
}

RequestPtr MessageCommunicator::all_gather_async(std::span<const std::byte> mine, std::span<std::byte> all,
                                                 std::span<const int64_t> counts, CallSite at) {
  check_pieces("all_gather", counts, all.size());
  if (static_cast<int64_t>(mine.size()) != counts[static_cast<size_t>(rank())]) {
    fail(ErrorKind::internal, "all_gather on axis {}: {} bytes given, the own piece has {}", name_, mine.size(),
         counts[static_cast<size_t>(rank())]);
  }
  check("all_gather", -1, static_cast<int64_t>(all.size()), "byte", at);
  const uint64_t sequence = log("all_gather", -1, static_cast<int64_t>(all.size()), "byte", at);
  const int tag = collective_tag();
  const auto total = static_cast<int64_t>(all.size());
  const bool in_one_copy = total >= kOneCopyBytes && transport_->copies_once();
  if (SharedArea* area = shared(total); area != nullptr && !in_one_copy) {
    return make_request(shared_all_gather(*area, mine, all, counts), sequence);
  }
  const int n = size();
  std::vector<std::unique_ptr<Operation>> messages;
  int64_t begin = 0;
  int64_t own = 0;
  for (int r = 0; r < n; begin += counts[static_cast<size_t>(r)], ++r) {
    const int64_t bytes = counts[static_cast<size_t>(r)];
    if (r == rank()) own = begin;
    if (r != rank() && bytes > 0) messages.push_back(message(/*sending=*/false, all.data() + begin, bytes, r, tag));
  }
  for (int step = 1; step < n && !mine.empty(); ++step) {
    messages.push_back(message(/*sending=*/true, const_cast<std::byte*>(mine.data()), static_cast<int64_t>(mine.size()),
                               (rank() + step) % n, tag));
  }
  if (!mine.empty() && all.data() + own != mine.data()) std::memmove(all.data() + own, mine.data(), mine.size());
  return make_request(std::make_unique<AllOf>(std::move(messages)), sequence);
}

RequestPtr MessageCommunicator::all_to_all_async(std::span<const std::byte> out, std::span<const int64_t> out_counts,
                                                 std::span<std::byte> in, std::span<const int64_t> in_counts,
                                                 CallSite at) {
  check_pieces("all_to_all (out)", out_counts, out.size());
  check_pieces("all_to_all (in)", in_counts, in.size());
  check("all_to_all", -1, 0, "byte", at);  // the counts differ between ranks
  const uint64_t sequence = log("all_to_all", -1, static_cast<int64_t>(out.size()), "byte", at);
  return make_request(exchange_pieces(out, out_counts, in, in_counts, collective_tag()), sequence);
}

void MessageCommunicator::check_peer(int peer, int tag) const {
  if (peer < 0 || peer >= size() || tag < 0 || tag >= kUserTags) {
    fail(ErrorKind::internal, "rank {} of axis {}: peer {} of {} ranks or tag {} of {} is out of range", rank(), name_,
         peer, size(), tag, kUserTags);
  }
}

RequestPtr MessageCommunicator::send(std::span<const std::byte> data, int to, int tag, CallSite at) {
  check_peer(to, tag);
  const auto bytes = static_cast<int64_t>(data.size());
  const uint64_t sequence = log("send", to, bytes, "byte", at);
  return make_request(message(/*sending=*/true, const_cast<std::byte*>(data.data()), bytes, to, tag), sequence);
}

RequestPtr MessageCommunicator::receive(std::span<std::byte> data, int from, int tag, CallSite at) {
  check_peer(from, tag);
  const auto bytes = static_cast<int64_t>(data.size());
  const uint64_t sequence = log("receive", from, bytes, "byte", at);
  return make_request(message(/*sending=*/false, data.data(), bytes, from, tag), sequence);
}

std::unique_ptr<Communicator> MessageCommunicator::split(int colour, int key, std::string name, CallSite at) {
  check("split", -1, 0, "byte", at);
  const uint64_t sequence = log("split", -1, 0, "byte", at);
  std::vector<std::array<int, 2>> asked(static_cast<size_t>(size()));
  asked[static_cast<size_t>(rank())] = {colour, key};
  gather_small(reinterpret_cast<std::byte*>(asked.data()), static_cast<int64_t>(sizeof(asked[0])), collective_tag());
  std::vector<int> members;
  for (int r = 0; r < size(); ++r) {
    if (asked[static_cast<size_t>(r)][0] == colour) members.push_back(r);
  }
  std::stable_sort(members.begin(), members.end(), [&asked](int a, int b) {
    return asked[static_cast<size_t>(a)][1] < asked[static_cast<size_t>(b)][1];
  });
  auto part = transport_->split(colour, key, members, ++splits_);
  engine_->log.finish(sequence);
  return std::make_unique<MessageCommunicator>(std::move(part), engine_, std::move(name));
}

}  // namespace farsight
