#include <stdint.h>

// Eight bytes of 0 and 1 as the bits of one: byte i goes to bit 56 + i of the product, and nothing meets.
static inline uint8_t bits_of(const uint8_t* fired) {
  uint64_t eight = 0;
  for (long i = 0; i < 8; i++) eight |= (uint64_t)fired[i] << 8 * i;
  return (uint8_t)((eight * 0x0102040810204080u) >> 56);
}
