title = Başka bir yerde zaten oturum açtınız
intro =
    { $needed ->
        [one] Burada oturum açmak için diğer oturumlarınızdan birini sonlandırın.
       *[other] Burada oturum açmak için diğer oturumlarınızdan { $needed } tanesini sonlandırın.
    }
intro-marked =
    { $marked ->
        [one] Bunlardan en az birinde “{ mark }” işareti olmalıdır.
       *[other] Bunlardan en az { $marked } tanesinde “{ mark }” işareti olmalıdır.
    }
mark = Bu uygulama
legend = Oturumlarınız
device = { $browser }, { $system }
unknown-browser = Bilinmeyen tarayıcı
unknown-device = Bilinmeyen cihaz
last-used = Son kullanım: { $ago }
began = Oturum açma: { $ago }
now = az önce
minutes-ago =
    { $count ->
        [one] 1 dakika önce
       *[other] { $count } dakika önce
    }
hours-ago =
    { $count ->
        [one] 1 saat önce
       *[other] { $count } saat önce
    }
days-ago =
    { $count ->
        [one] 1 gün önce
       *[other] { $count } gün önce
    }
hidden =
    { $count ->
        [one] Bir oturum daha var, gösterilmiyor.
       *[other] { $count } oturum daha var, gösterilmiyor.
    }
end = Sonlandır ve oturum aç
cancel = İptal
unfit =
    { $needed ->
        [one] Lütfen bir oturum seçin.
       *[other] Lütfen { $needed } oturum seçin.
    }
failed = Oturumların tümü sonlandırılamadı. Lütfen yeniden deneyin.
continue-title = Bir dakika
continue-text = Oturum açma işlemine geri dönüyorsunuz.
continue = Devam et
stopped-title = Bu sayfa kullanılamıyor
invalid = Bu sayfanın adresi geçerli değil. Lütfen uygulamaya dönün ve yeniden oturum açın.
expired = Bu sayfanın süresi doldu. Lütfen uygulamaya dönün ve yeniden oturum açın.
elsewhere = Bu sayfa başka bir tarayıcıda veya pencerede açıldı. Lütfen uygulamaya dönün ve yeniden oturum açın.
done = Bu sayfa daha önce kullanıldı. Lütfen devam edin ya da uygulamaya dönüp yeniden oturum açın.
worn-out = Bu sayfa çok sık kullanıldı. Lütfen uygulamaya dönün ve yeniden oturum açın.
impossible = Şu anda oturumlarınızdan hiçbiri sonlandırılamıyor. Lütfen diğer cihazınızda oturumu kapatın ve yeniden deneyin.
unavailable = Oturumlarınız şu anda gösterilemiyor. Lütfen yeniden deneyin.
retry = Yeniden dene
