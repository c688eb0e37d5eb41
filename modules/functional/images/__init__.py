"""Operations on images and on feature maps."""
