// SPDX-License-Identifier: Apache-2.0
// Damages a good checkpoint from consecutive seeds, mostly resealing the checksums so that the parsers see the damage,
// and loads it. Whatever comes out, it must be the saved bytes or Error{data | io}, and memory stays below the size of
// the files + 64 MiB. Ends at the first that breaks this, with the command that repeats it.
//
//   checkpoint_fuzz [--seed FIRST] [--count N]      --count 0 runs until it is stopped
#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "kernels/error.h"
#include "tests/faults/checkpoint_sample.h"
#include "tests/faults/memory_file_system.h"
#include "tests/fuzz/fuzz_driver.h"
#include "trainer/checkpoint/crc32c.h"
#include "trainer/checkpoint/load.h"
#include "trainer/checkpoint/shard_file.h"

namespace {

std::atomic<int64_t> live_bytes{0}, peak_bytes{0};

void count(int64_t bytes) {
  const int64_t now = live_bytes += bytes;
  int64_t peak = peak_bytes;
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
  }
}

}  // namespace

void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  void* pointer = std::malloc(bytes);
  if (pointer != nullptr) count(static_cast<int64_t>(malloc_usable_size(pointer)));
  return pointer;
}
void* operator new(size_t bytes) {
  void* pointer = operator new(bytes, std::nothrow);
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}
void operator delete(void* pointer) noexcept {
  if (pointer != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(pointer));
  std::free(pointer);
}
void operator delete(void* pointer, size_t) noexcept { operator delete(pointer); }

namespace farsight {
namespace {

const std::string kRun = "run";
const std::string kCheckpoint = kRun + "/step-00000005";
using Random = std::mt19937_64;

uint64_t below(Random& random, uint64_t limit) { return limit == 0 ? 0 : random() % limit; }

// Bytes, numbers and brackets that parsers stumble over.
std::string token(Random& random) {
  static const char* const kTokens[] = {"-1",
                                        "0",
                                        "18446744073709551615",
                                        "9223372036854775807",
                                        "1e999",
                                        "null",
                                        "[",
                                        "]",
                                        "{",
                                        "}",
                                        "\"",
                                        ",",
                                        ":",
                                        "[[[[[[[[",
                                        "\"name\"",
                                        "\xff",
                                        "4611686018427387904"};
  return kTokens[below(random, std::size(kTokens))];
}

void mutate(std::string& text, Random& random) {
  const size_t at = below(random, text.size() + 1);
  switch (below(random, 5)) {
    case 0:
      if (at < text.size()) text[at] = static_cast<char>(random());
      return;
    case 1:
      text.insert(at, token(random));
      return;
    case 2:
      text.erase(at, below(random, 12));
      return;
    case 3:
      if (at < text.size()) text.replace(at, below(random, 6), token(random));
      return;
    default:
      text.insert(at, text.substr(at, below(random, 200)));
  }
}

void reseal_manifest(std::string& text, Random& random) {
  std::string body = text.substr(0, text.rfind("crc32c="));
  body.pop_back();
  for (uint64_t n = 1 + below(random, 3); n > 0; --n) mutate(body, random);
  body += '\n';
  text = body + fmt::format("crc32c={:08x}\n", crc32c(body));
}

// Changes the header and rebuilds the file around it with right checksums.
void reseal_shard(std::string& file, Random& random) {
  const auto bytes = std::as_bytes(std::span(file));
  const auto size = static_cast<int64_t>(file.size());
  const int64_t header_bytes = decode_shard_prefix(bytes.first(16), size, "seed");
  ShardFooter footer = decode_shard_footer(bytes.last(40), size, "seed");
  std::string header = file.substr(16, static_cast<size_t>(header_bytes));
  const auto old_data = static_cast<size_t>(align_up(16 + header_bytes, kShardDataAlign));
  const auto table = static_cast<size_t>(footer.table_offset);
  const std::string data = file.substr(old_data, table - old_data);
  const std::string table_text = file.substr(table, file.size() - table - 40);
  for (uint64_t n = 1 + below(random, 3); n > 0; --n) mutate(header, random);
  const auto prefix = encode_shard_prefix(static_cast<int64_t>(header.size()));
  std::string out(reinterpret_cast<const char*>(prefix.data()), prefix.size());
  out += header;
  footer.crc_header = crc32c(out);
  out.resize(static_cast<size_t>(align_up(static_cast<int64_t>(out.size()), kShardDataAlign)), '\0');
  out += data;
  footer.table_offset = static_cast<int64_t>(out.size());
  out += table_text;
  footer.file_bytes = static_cast<int64_t>(out.size()) + 40;
  const auto end = encode_shard_footer(footer);
  out.append(reinterpret_cast<const char*>(end.data()), end.size());
  file = out;
}

void damage(MemoryFileSystem& files, Random& random) {
  std::string& manifest = files.content(kCheckpoint + "/MANIFEST");
  std::string& shard = files.content(kCheckpoint + "/shard-00000-of-00001.fss");
  switch (below(random, 4)) {
    case 0:
      return reseal_manifest(manifest, random);
    case 1:
      return reseal_shard(shard, random);
    case 2:
      return mutate(shard, random);
    default:
      return mutate(manifest, random);
  }
}

// Every reader sees the damaged files; empty if all behave.
std::string attempt(MemoryFileSystem& files) {
  const auto guarded = [](const auto& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::data && error.kind() != ErrorKind::io) return error.what();
    } catch (const std::exception& error) {
      return error.what();
    }
    return {};
  };
  std::string wrong = guarded([&] { verify_checkpoint(files, kCheckpoint, VerifyLevel::full); });
  if (!wrong.empty()) return wrong;
  // The shard on its own: the manifest's checksums would hide what its parser does.
  wrong = guarded([&] { ShardReader(files, kCheckpoint + "/shard-00000-of-00001.fss", 0); });
  if (!wrong.empty()) return wrong;
  return guarded([&] { load_sample(files, kRun, {ResumeRequest::Mode::automatic, {}}, tiny_tensors()); });
}

// `good` with one seed's damage; also bounds what reading it may allocate.
std::string check(MemoryFileSystem& good, uint64_t seed) {
  Random random(seed);
  const auto files = good.copy();
  damage(*files, random);
  const int64_t before = live_bytes;
  peak_bytes = before;
  std::string wrong = attempt(*files);
  const int64_t used = peak_bytes - before;
  if (used > (64 << 20)) wrong = fmt::format("{} bytes allocated", used);
  return wrong;
}

}  // namespace
}  // namespace farsight

int main(int argc, char** argv) {
  farsight::MemoryFileSystem good;
  const auto world = farsight::make_self_communicator();
  farsight::save_sample(good, *world, farsight::sample_options(farsight::kRun), farsight::tiny_tensors(), 5);
  return farsight::run_fuzz("checkpoint_fuzz", argc, argv, [&](uint64_t seed) { return farsight::check(good, seed); });
}
