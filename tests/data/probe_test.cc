// SPDX-License-Identifier: Apache-2.0
// The child process that parses metadata: whatever happens to it, the parent gets Error{data}.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include <hdf5.h>

#include "data/corpus.h"
#include "data/hdf5.h"
#include "tests/data/hdf5_sample.h"
#include "tests/data/scratch.h"

namespace {

enum class Behaviour { normal, crash, abort, spin, exit, allocate };
Behaviour behaviour = Behaviour::normal;

void misbehave() {
  volatile int* nowhere = nullptr;
  switch (behaviour) {
    case Behaviour::normal:
      return;
    case Behaviour::crash:
      *nowhere = 1;
      return;
    case Behaviour::abort:
      std::abort();
    case Behaviour::spin: {
      for (volatile bool on = true; on;) {
      }
      return;
    }
    case Behaviour::exit:
      _exit(3);
    case Behaviour::allocate: {
      std::string memory(size_t{512} << 20, 'x');
      volatile char last = memory.back();
      (void)last;
      return;
    }
  }
}

}  // namespace

// Stands before the library's function, as a damaged file would make it behave.
extern "C" hid_t H5Fopen(const char* name, unsigned flags, hid_t access) {
  misbehave();
  const auto real = reinterpret_cast<hid_t (*)(const char*, unsigned, hid_t)>(dlsym(RTLD_NEXT, "H5Fopen"));
  return real(name, flags, access);
}

namespace farsight {
namespace {

class ProbeTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = scratch_.path("c.h5");
    write_sample(path_, {.tokens = std::vector<int32_t>(100, 5)});
  }
  void TearDown() override { behaviour = Behaviour::normal; }

  std::string refusal(Behaviour of_child, const ProbeLimits& limits = {}) const {
    behaviour = of_child;
    const std::string text = error_of(ErrorKind::data, [&] { probe_corpus(path_, limits); });
    behaviour = Behaviour::normal;
    return text;
  }

  Scratch scratch_;
  std::string path_;
};

TEST_F(ProbeTest, AGoodFileIsDescribedAsInThisProcess) {
  EXPECT_EQ(probe_corpus(path_).to_bytes(), describe_corpus(path_).to_bytes());
}

TEST_F(ProbeTest, CrashesOfTheLibraryAreErrors) {
  EXPECT_CONTAINS(refusal(Behaviour::crash), "c.h5: damaged or hostile file: the HDF5 library");
  EXPECT_CONTAINS(refusal(Behaviour::abort), "c.h5: damaged or hostile file: the HDF5 library ended with signal 6");
  EXPECT_CONTAINS(refusal(Behaviour::exit), "c.h5: damaged or hostile file: the HDF5 library failed");
  EXPECT_NO_THROW(probe_corpus(path_));
}

TEST_F(ProbeTest, EndlessWorkEndsAtTheLimitOfProcessorTimeOrOfTheClock) {
  EXPECT_CONTAINS(refusal(Behaviour::spin, {.cpu_s = 1, .wall_s = 100}), "ended with signal");
  EXPECT_CONTAINS(refusal(Behaviour::spin, {.cpu_s = 100, .wall_s = 1}), "no answer from the HDF5 library in 1 s");
}

TEST_F(ProbeTest, TooMuchMemoryIsAnError) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "address space is not limited under sanitizers";
#endif
  EXPECT_CONTAINS(refusal(Behaviour::allocate, {.memory_bytes = 64 << 20}), "damaged or hostile file");
  EXPECT_EQ(refusal(Behaviour::allocate), "");
}

TEST_F(ProbeTest, AFileThatNeverAnswersEndsAtTheClock) {
  const std::string fifo = scratch_.path("fifo.h5");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::string text = error_of(ErrorKind::data, [&] { probe_corpus(fifo, {.wall_s = 1}); });
  EXPECT_CONTAINS(text, "fifo.h5: damaged or hostile file: no answer");
}

TEST_F(ProbeTest, AFileLockedByAWriterIsExplained) {
  const int writer = open(path_.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(writer, LOCK_EX), 0);
  EXPECT_CONTAINS(error_of(ErrorKind::data, [&] { probe_corpus(path_); }), "another process has it open for writing");
  close(writer);
  EXPECT_NO_THROW(probe_corpus(path_));
}

}  // namespace
}  // namespace farsight
